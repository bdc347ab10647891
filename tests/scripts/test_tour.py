"""The notebook runs as it is, without a network, and is kept without outputs."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "examples" / "tour.ipynb"
SECONDS = 600
"""How long the test waits for a cell, on however busy a machine."""
PROCESSOR_SECONDS = 120
"""How much processor time all cells together may take: two minutes on an idle machine."""


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_the_notebook_runs() -> None:
    reason = "needs pip install -e '.[docs]'"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    before = _processor_seconds_of_children()
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3").execute()
    assert 1 < _processor_seconds_of_children() - before < PROCESSOR_SECONDS
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
    [table] = [output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    elbo = next(line for line in table.splitlines() if line.startswith("| elbo"))
    assert elbo.startswith("| elbo ↑ | n/a | ")
    assert not [output for output in outputs if output.get("name") == "stderr"]


def _processor_seconds_of_children() -> float:
    """Of processes that have ended, such as the notebook's kernel."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
