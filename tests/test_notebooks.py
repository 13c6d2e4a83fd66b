"""The notebooks run, and show what they print; of plots only that they are there.

After a change that is meant:

    jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb
"""

from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def shown(output):
    """What a reader sees of an output that is the same on every machine."""
    if output.output_type == "stream":
        return output.text if output.name == "stdout" else ""
    return "(a plot)" if "image/png" in output.data else output.data["text/plain"]


def outputs(notebook):
    """What a reader sees, by the source of its cell."""
    return {
        cell.source: "".join(shown(output) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_prints(path):
    notebook = nbformat.read(path, as_version=4)
    ran = deepcopy(notebook)
    NotebookClient(ran, timeout=600, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    assert outputs(notebook) == outputs(ran)
