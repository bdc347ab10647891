"""Entry point of ``vaezoo`` and ``python -m vaezoo``. Ctrl-C exits without a traceback."""

import _signal  # type: ignore[import-not-found]  # the C part of signal, which needs no further imports

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from vaezoo.distributed import interrupts  # noqa: E402


def main() -> None:
    """Entry point of ``vaezoo``."""
    interrupts.run(_main)


def _main() -> None:
    from vaezoo.commands import command_line

    command_line.main()


if __name__ == "__main__":
    main()
