"""The contract of every model, as functions that raise ContractError; used by tests and ``vaezoo check``."""

from vaezoo.commands.check.clauses import CLAUSES, Make
from vaezoo.commands.check.error import ContractError

__all__ = ["CLAUSES", "ContractError", "Make"]
