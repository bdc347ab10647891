"""What can go wrong for reasons that lie with the user: each error is one sentence with its remedy."""


def printable(text: str) -> str:
    """The same text with what would move a terminal's cursor, break its line or turn its direction as escapes.

    Names of files and what stands in records may come from a stranger.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


LONGEST = 1000
"""Letters of a message that are shown: of a longer one, such as one that repeats a very long setting, both ends."""


class VaezooError(Exception):
    """Shown as one sentence without a traceback; the process ends with a non-zero exit code."""

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class ConfigError(VaezooError, ValueError):
    """A setting is unknown, of the wrong type or impossible together with another one."""


class DataError(VaezooError):
    """Images are missing, cannot be downloaded or cannot be read."""


class ImageError(VaezooError, ValueError):
    """The image API was given what are no images or codes of the model."""


class RunError(VaezooError):
    """A run folder is missing, is taken by another run or cannot be continued."""


class DiskError(RunError):
    """A disk is full or fails."""


class NonFiniteLossError(VaezooError, ArithmeticError):
    """The loss became infinite or not a number."""
