"""Download or render data sets in advance, for offline machines: python scripts/prepare_data.py mnist sprites."""

import argparse

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vaezoo.config import hydra_config
from vaezoo.config.errors import VaezooError


def main() -> None:
    names = hydra_config.options("data")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--root", help="where to put them; by default VAEZOO_DATA, else data")
    arguments = parser.parse_args()
    for name in arguments.names:
        try:
            prepare(name, arguments.root)
        except VaezooError as error:
            parser.exit(1, f"{name}: {error}\n")
        print(f"{name}: ready", flush=True)


def prepare(name: str, root: str | None) -> None:
    """Download or draw one data set."""
    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        cfg = compose(f"data/{name}", overrides=["+seed=0"])
    if root is not None:
        cfg.data.root = root
    instantiate(cfg.data).prepare_data()


if __name__ == "__main__":
    main()
