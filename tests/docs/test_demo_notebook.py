"""The notebook of the public API runs and prints what it shows. After a change that is meant:

python tests/docs/test_demo_notebook.py --write"""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "demo.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(folder):
    """The notebook, run from the folder that holds it by a kernel that keeps its own files in `folder`."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    own = {
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where, coalesce_streams=True)
    client.execute(env={**os.environ, **own})
    return notebook


def outputs(notebook):
    """All outputs, but for warnings of libraries."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in found if output.get("name") != "stderr"]


def printed(notebook):
    """Everything on the standard output, as (the text without its numbers, the numbers)."""
    number = r"-?\d+\.\d+(?:e-?\d+)?"
    text = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    return re.sub(number, "#", text), [float(n) for n in re.findall(number, text)]


def pictures(notebook):
    """Number of pictures."""
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_the_demo_runs_and_prints_what_it_shows(tmp_path):
    shown, found = nbformat.read(NOTEBOOK, as_version=4), executed(tmp_path)
    (wanted_text, wanted), (text, numbers) = printed(shown), printed(found)
    assert text == wanted_text
    assert numbers == pytest.approx(wanted, rel=0.02, abs=2e-3)
    assert pictures(found) == pictures(shown) == 1


@pytest.mark.fast
def test_the_demo_is_stored_as_run_once_from_top_to_bottom():
    stored = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert stored["metadata"] == METADATA
    assert [cell["metadata"] for cell in stored["cells"]] == [{}] * len(stored["cells"])
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert NOTEBOOK.stat().st_size < 100_000


def _write(folder):
    notebook = executed(folder)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("text/plain", None)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    import tempfile

    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        _write(Path(temporary))
