"""What pages say of the repository: tests, files, links, commands and versions that they name are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import trialplate
from trialplate.cli import app, asa

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "REPRODUCIBILITY.md", *sorted((ROOT / "docs").glob("*.md"))]
ABOUT_THE_CODE = [path for path in PAGES if path.stem in ("METHOD", "ASSUMPTIONS", "ROADMAP", "REPRODUCIBILITY")]
NUMBER_OF_KNOWN_BEHAVIOURS = 16


@cache
def functions(path):
    """Names of the functions at the top level of a file."""
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@cache
def anchors(path):
    """Fragments that lead to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def cited_tests(text):
    """(file, function) of every `tests/….py::function`."""
    return re.findall(r"(tests/[\w/]+\.py)::(\w+)", text)


def missing_tests(text):
    """Cited tests that do not exist."""
    return [
        f"{file}::{name}"
        for file, name in cited_tests(text)
        if not (ROOT / file).is_file() or name not in functions(ROOT / file)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_cited_tests_exist(page):
    assert missing_tests(page.read_text(encoding="utf-8")) == []


def test_a_test_that_is_gone_would_be_noticed():
    here = "tests/docs/test_pages.py"
    assert missing_tests(f"`{here}::test_cited_tests_exist` and `{here}::test_gone`") == [f"{here}::test_gone"]
    assert missing_tests("tests/docs/gone.py::test_gone") == ["tests/docs/gone.py::test_gone"]


def test_every_known_behaviour_is_pinned_by_a_test():
    text = (ROOT / "docs" / "METHOD.md").read_text(encoding="utf-8")
    rows = {int(number): row for number, row in re.findall(r"^\| (\d+) \| (.+)$", text, re.MULTILINE) if "::" in row}
    assert sorted(rows) == list(range(1, NUMBER_OF_KNOWN_BEHAVIOURS + 1))
    assert all(re.search(r"\| (kept|fixed|harmless)", row) for row in rows.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    found = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8"))
    wrong = []
    for target, fragment in found:
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (fragment and fragment not in anchors(file)):
            wrong.append(f"{target}#{fragment}")
    assert wrong == []


@pytest.mark.parametrize("page", ABOUT_THE_CODE, ids=lambda path: path.name)
def test_files_that_are_named_exist(page):
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|json|toml|txt|ipynb))`", page.read_text(encoding="utf-8"))
    there = [name for name in named if name.startswith(("runs/", "reports/")) or (ROOT / name).exists()]
    assert [name for name in named if name not in there and not (ROOT / "src" / name).exists()] == []


def typed(text):
    """(program, command, what follows it) of lines that begin with `$ ` or four spaces, and of code between backticks."""
    return re.findall(r"(?:^\$ |^ {4}|`)(asa|trialplate|make) ([a-z-]+)(?: ([a-z-]+))?", text, re.MULTILINE)


def test_commands_that_are_typed_exist():
    groups = {"asa": get_command(asa.app), "trialplate": get_command(app.app)}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong, seen = [], set()
    for page in (ROOT / "README.md", ROOT / "REPRODUCIBILITY.md"):
        for program, command, argument in typed(page.read_text(encoding="utf-8")):
            seen.add(program)
            known = targets if program == "make" else set(groups[program].commands)
            below = getattr(groups[program].commands.get(command), "commands", {}) if program != "make" else {}
            if command not in known or (below and argument not in below):
                wrong.append(f"{page.name}: {program} {command} {argument}".rstrip())
    assert wrong == []
    assert seen == {"asa", "trialplate", "make"}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (trialplate.__version__, "MIT")
    assert f"## {trialplate.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
