"""The README's figure of runs with two latent dimensions: python scripts/readme_picture.py OUT.png RUN [RUN ...].

It also prints how far their codes are from the origin.
"""

import argparse

import numpy as np
import torch
from PIL import Image

from vaezoo import Run, figures
from vaezoo.training.callbacks import LatentMap
from vaezoo.training.callbacks.pictures import codes_of, examples


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
    drawn, model = LatentMap(ellipses=60), run.model()
    with torch.no_grad():
        figure = drawn.draw(model, data)
        distances = codes_of(model, *examples(model, data, drawn.count)).mean.norm(dim=1)
    assert figure is not None
    most, median = float(distances.max()), float(distances.median())
    print(f"{run.path}: codes up to {most:.1f} from the origin, half of them up to {median:.1f}")
    return figures.raster(figure)


if __name__ == "__main__":
    main()
