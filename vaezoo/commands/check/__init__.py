"""What every model keeps to, as functions that raise a sentence: for the tests of the zoo and for ``vaezoo check``."""

from vaezoo.commands.check.clauses import CLAUSES, Make
from vaezoo.commands.check.error import ContractError

__all__ = ["CLAUSES", "ContractError", "Make"]
