"""Errors that the user can fix. Each message is one sentence with a remedy."""


def printable(text: str) -> str:
    """The text with control characters (cursor, line breaks, text direction) escaped.

    File names and records may come from an untrusted source.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def one_line(error: BaseException, most: int = 200) -> str:
    """What a library says of an error, in one printable line of at most so many characters."""
    return printable(" ".join(str(error).split()) or type(error).__name__)[:most]


LONGEST = 1000
"""Maximum characters of a message that are shown; of a longer one, both ends."""


class VaezooError(Exception):
    """Base of all errors that are shown as one sentence without a traceback; the exit code is non-zero."""

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class ConfigError(VaezooError, ValueError):
    """A setting is unknown, has a wrong type or value, or conflicts with another one."""


class DataError(VaezooError):
    """Images are missing, cannot be downloaded or cannot be read."""


class ImageError(VaezooError, ValueError):
    """The image API was called with invalid images or codes."""


class RunError(VaezooError):
    """A run folder is missing, in use, damaged or not resumable."""


class DiskError(RunError):
    """A disk is full or failing."""


class NonFiniteLossError(VaezooError, ArithmeticError):
    """A loss, gradient or weight became infinite or NaN."""
