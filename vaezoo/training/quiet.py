"""Filters for the messages and warnings of Lightning and other libraries."""

import logging
import threading
import warnings

from vaezoo.distributed.rank_zero import is_rank_zero

log = logging.getLogger(__name__)


def quieten() -> None:
    """Hide Lightning's messages below warnings and some known warnings; show the others as one line on rank zero."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # nothing is changed in place
    warnings.filterwarnings("ignore", message=".*exists and is not empty")  # runs.refuse_if_taken checks that
    show = log.warning if is_rank_zero() else log.debug  # libraries warn on every rank
    warnings.showwarning = lambda message, *_, **__: show("warning     %s", message)
    threading.excepthook = _hold_back


def _hold_back(arguments: threading.ExceptHookArgs) -> None:
    """Print no traceback of an OSError in a writer thread; the main thread raises the same error."""
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)
