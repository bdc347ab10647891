"""What Lightning and other libraries print, and what of it users get to see."""

import logging
import threading
import warnings

from vaezoo.distributed.rank_zero import is_rank_zero

log = logging.getLogger(__name__)


def quieten() -> None:
    """Leave out what Lightning says of the machine and of itself; show warnings as one line."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # nothing is changed in place
    warnings.filterwarnings("ignore", message=".*exists and is not empty")  # it is ours: see runs.refuse_if_taken
    show = log.warning if is_rank_zero() else log.debug  # libraries warn in every process
    warnings.showwarning = lambda message, *_, **__: show("warning     %s", message)
    threading.excepthook = _hold_back


def _hold_back(arguments: threading.ExceptHookArgs) -> None:
    """Nothing of a disk's errors in a thread that writes for another, which raises them too."""
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)
