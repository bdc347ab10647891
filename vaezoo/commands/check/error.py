"""The error of a violated contract."""

from vaezoo.config.errors import VaezooError


class ContractError(VaezooError, AssertionError):
    """A model violates a clause; the message says what was expected, what was found, and what to do."""


def demand(holds: object, sentence: str) -> None:
    """Raise ContractError with this sentence unless the condition holds."""
    if not holds:
        raise ContractError(sentence)
