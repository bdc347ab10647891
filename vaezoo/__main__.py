"""Where ``vaezoo``, ``python -m vaezoo`` and train.py begin; from here on Ctrl-C ends them without a traceback."""

import _signal  # type: ignore[import-not-found]  # the built-in part of signal, at hand at once

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from vaezoo.distributed import interrupts  # noqa: E402


def main() -> None:
    """The program ``vaezoo``."""
    interrupts.run(_main)


def train() -> None:
    """The program train.py."""
    interrupts.run(_train)


def _main() -> None:
    from vaezoo.commands import command_line

    command_line.main()


def _train() -> None:
    from vaezoo.commands import command_line

    command_line.train()


if __name__ == "__main__":
    main()
