"""The README's figure of runs with two latent dimensions: python scripts/readme_picture.py OUT.png RUN [RUN ...]."""

import argparse

import numpy as np
import torch
from PIL import Image

from vaezoo import Run, figures
from vaezoo.training.callbacks import LatentMap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="the PNG to write")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, one row each")
    arguments = parser.parse_args()
    rows = [latent_map(Run(path)) for path in arguments.runs]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    picture = Image.fromarray(np.concatenate(padded))
    # 256 colours keep the file small; this way of choosing them keeps the rare ones, which tell classes apart.
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(arguments.out, optimize=True)


def latent_map(run: Run) -> np.ndarray:
    """Codes and decoded plane of a run's best weights: (H, W, 3) uint8."""
    data = run.data()
    with torch.no_grad():
        figure = LatentMap(ellipses=60).draw(run.model(), data)
    assert figure is not None
    return figures.raster(figure)


if __name__ == "__main__":
    main()
