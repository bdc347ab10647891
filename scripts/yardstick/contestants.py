"""The contestants: their names, the modules that train them, and why one may be unavailable."""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Contestant:
    """Trains a VAE in a process of its own: ``python -m yardstick.MODULE JOB``."""

    name: str
    module: str
    about: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    needs: str | None = None
    """A package that does not come with vaezoo."""
    settings: tuple[str, ...] = ()
    """Further settings of ``train.py``."""
    by_default: bool = True
    """Whether it is measured where no contestants are named."""


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("bare", "bare", "a hand-written PyTorch loop over one tensor of images, fused Adam"),
        Contestant("bare-flush", "bare", "the same with denormal numbers flushed, as vaezoo does", devices=("cpu",)),
        Contestant("bare-graph", "bare", "the loop as one CUDA graph, the practical limit", devices=("cuda",)),
        Contestant("vaezoo", "product", "python train.py, everything on: logging, checkpoints, validation, pictures"),
        Contestant("vaezoo-lightning", "product", "the same with stepping=lightning", settings=("stepping=lightning",)),
        *(
            Contestant(
                f"vaezoo-{count}",
                "product",
                f"vaezoo with threads={count}",
                devices=("cpu",),
                settings=(f"threads={count}",),
                by_default=False,
            )
            for count in (1, 2)
        ),
        Contestant("textbook-0", "textbook", "Lightning as its tutorials write it, DataLoader without workers"),
        Contestant("textbook-2", "textbook", "the same with 2 workers"),
        Contestant("pythae", "pythae_vae", "pythae 0.1.2's own trainer on the same networks", needs="pythae"),
    )
}


def missing(contestant: Contestant) -> str | None:
    """Why a contestant cannot be measured here, None if it can."""
    if contestant.needs is None or find_spec(contestant.needs) is not None:
        return None
    return f'{contestant.needs} is not installed; run: pip install -e ".[bench]"'
