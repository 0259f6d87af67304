"""`trialplate inventory` and `trialplate seal`: what they print, their exit status, and the page in docs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trialplate.cli.app import app
from trialplate.inventory.page import markdown
from trialplate.inventory.scan import scan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def invoke():
    return lambda *args: CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def folder(tmp_path):
    """A folder with a script, a broken one, and a class in two versions."""
    (tmp_path / "a.py").write_text(
        '"""Says | this and *that* <b>."""\nimport os.path\nclass A: pass\nrecord("loss", 1)\nopen("x|y", "w")\n'
    )
    (tmp_path / "b.py").write_text("class A:\n    x = 1\n")
    (tmp_path / "c.py").write_text("def f(:")
    return tmp_path


def test_the_page_in_docs_is_the_inventory_of_the_archive():
    page = ROOT / "docs" / "EXPERIMENTS.md"
    made = markdown(scan(ROOT / "building_blocks"))
    assert page.read_text(encoding="utf-8") == made, (
        "run: trialplate inventory building_blocks --markdown > docs/EXPERIMENTS.md"
    )


def test_markdown_escapes_what_would_break_it(invoke, folder):
    done = invoke("inventory", folder, "--markdown")
    assert done.exit_code == 0
    row = r'| `a.py` | Says \| this and \*that\* &lt;b>. | `os.path` | classes `A` | `"loss"` | `x\|y` |'
    assert row in done.output.splitlines()
    assert "| `A`, 2 versions | `a.py:3` |  |" in done.output
    assert "|  | `b.py:1` | against `a.py:3`: `attributes added: x` |" in done.output
    assert "| ⚠ `c.py` |" in done.output
    assert "* `c.py`: syntax error: " in done.output


def test_the_page_does_not_depend_on_how_the_folder_is_named(invoke, folder, monkeypatch):
    page = invoke("inventory", folder, "--markdown").output
    monkeypatch.chdir(folder)
    assert invoke("inventory", ".", "--markdown").output == page
    assert f"`trialplate inventory {folder.name} --markdown`" in page


def test_the_table_says_the_same(invoke, folder):
    done = invoke("inventory", folder)
    assert done.exit_code == 0
    for text in (
        "Says | this and *that* <b>.",
        '"loss"',
        "x|y",
        "syntax error: invalid",
        "class A is defined 2 times, in 2 versions",
    ):
        assert text in done.output
    assert "  b.py:1, against a.py:3:\n    attributes added: x\n" in done.output
    assert done.output.endswith("3 files, 1 of them not read, or not whole\n")


def test_json_is_plain_data(invoke, folder):
    found = json.loads(invoke("inventory", folder, "--json").output)
    assert found["schema"] == 1
    assert [e["path"] for e in found["entries"]] == ["a.py", "b.py", "c.py"]
    assert found["repeated"][0]["versions"][1]["differences"] == ["attributes added: x"]


def test_an_empty_folder_is_said_to_be_empty(invoke, tmp_path):
    done = invoke("inventory", tmp_path)
    assert done.exit_code == 0
    assert done.output == f"no notebook and no script (.ipynb, .py) in {tmp_path}\n"
    page = invoke("inventory", tmp_path, "--markdown").output
    assert "No notebook and no script." in page
    assert "Everything was read." in page


def test_wrong_folders_and_options_are_refused(invoke, tmp_path):
    done = invoke("inventory", tmp_path / "absent")
    assert (done.exit_code, done.output) == (
        2,
        f"error: {tmp_path / 'absent'} is not there; give a folder of notebooks and scripts\n",
    )
    assert invoke("inventory", tmp_path, "--json", "--markdown").exit_code == 2


def test_seal_verifies_and_appends(invoke, folder):
    done = invoke("seal", folder)
    assert done.exit_code == 1
    assert "MANIFEST.sha256: is not there, so nothing is sealed; make it with --append" in done.output
    done = invoke("seal", folder, "--append")
    assert (done.exit_code, done.output) == (
        0,
        f"sealed: a.py\nsealed: b.py\nsealed: c.py\n{folder}: 3 of 3 files as sealed\n",
    )
    assert invoke("seal", folder).output == f"{folder}: 3 of 3 files as sealed\n"
    (folder / "a.py").write_text("other")
    done = invoke("seal", folder)
    assert done.exit_code == 1
    assert "a.py: was changed since it was sealed" in done.output
    assert f"{folder}: 2 of 3 files as sealed" in done.output
    done = invoke("seal", folder, "--append")
    assert done.exit_code == 2
    assert "error: " in done.output
    assert "Nothing was written" in done.output
