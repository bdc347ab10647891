"""What a clause of the contract raises."""

from vaezoo.config.errors import VaezooError


class ContractError(VaezooError, AssertionError):
    """A model does not keep to a clause: what was wanted, what came, what to do."""


def demand(holds: object, sentence: str) -> None:
    """ContractError with the sentence unless the condition holds."""
    if not holds:
        raise ContractError(sentence)
