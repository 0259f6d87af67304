"""Notebooks of the archive: the definitions of the scripts beside them, and examples that still give what they show."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pytest

from trialplate.inventory.scan import scan

ARCHIVE = Path(__file__).parents[2] / "building_blocks"
NOTEBOOKS = sorted(ARCHIVE.glob("*.ipynb"))
ENTRIES = {e.path: e for e in scan(ARCHIVE).entries}


@pytest.mark.fast
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_holds_the_definitions_of_its_script(path):
    entry = ENTRIES[path.name]
    assert entry.twin == f"{path.stem}.py"
    assert entry.twin_differs == ()


@pytest.mark.fast
def test_scripts_need_torch_and_each_other_only():
    own = {f"building_blocks.{path.stem}" for path in ARCHIVE.glob("*.py")}
    allowed = {"torch", "torch.nn.functional", *sys.stdlib_module_names} | own
    assert {
        e.path: set(e.imports) - allowed for e in ENTRIES.values() if e.kind == "script" and set(e.imports) - allowed
    } == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_prints_what_it_shows(path, monkeypatch):
    monkeypatch.chdir(ARCHIVE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names, printed, shown = {}, io.StringIO(), ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(printed):
                exec(compile("".join(cell["source"]), path.name, "exec"), names)
            shown += "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")
    text, numbers = split(printed.getvalue())
    wanted_text, wanted = split(shown)
    assert text == wanted_text
    assert numbers == pytest.approx(wanted, abs=2e-3)


def split(text):
    """(the text without its numbers, the numbers)."""
    number = r"-?\d+\.\d+(?:e-?\d+)?"
    return re.sub(number, "#", text), [float(n) for n in re.findall(number, text)]
