"""What of a file is read: any notebook and script, however broken, gives an entry, and what could not be read is said."""

import json
import re

import pytest

from trialplate.inventory.source import without_magics

pytestmark = pytest.mark.fast

BROKEN = {
    "syntax.py": ("def f(:", r"syntax error: .*\(line 1\)"),
    "nul.py": (b"x = 1\0", "null bytes"),
    "latin.py": ("é".encode("latin-1"), "not readable as text: .* save it as UTF-8, or declare its encoding"),
    "cookie.py": (b"# -*- coding: klingon -*-\n", "not readable as text: unknown encoding"),
    "utf16.py": ("x = 1".encode("utf-16"), "not readable as text"),
    "nested.py": ("x = " + "(" * 5000 + ")" * 5000, "too many nested parentheses|not parsed"),
    "chain.py": ("x = " + "+".join(["a"] * 50_000), "not parsed"),
    "empty.ipynb": (b"", "no notebook: an empty file"),
    "cut.ipynb": (b'{"cells": [', "no notebook: not JSON"),
    "deep.ipynb": (b"[" * 100_000, "no notebook: not JSON"),
    "list.ipynb": (b"[1]", "wanted a JSON object with cells"),
    "none.ipynb": (b"{}", "wanted a list of cells"),
    "number.ipynb": (b'{"cells": 3}', "wanted a list of cells"),
    "odd.ipynb": (b'{"cells": [3, {"cell_type": "code"}]}', "cell 1: no text in it"),
    "bytes.ipynb": (b'{"cells": "\xff"}', "no notebook: not JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_and_nothing_else(name, entry):
    content, problem = BROKEN[name]
    found = entry(content, name)
    assert found.path == name
    assert found.functions == found.imports == ()
    assert len(found.problems) >= 1
    assert re.search(problem, found.problems[0])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.py", b""),
        ("blank.py", b" \n\n"),
        ("bom.py", b"\xef\xbb\xbfimport os\n"),
        ("latin.py", '# coding: latin-1\nx = "é"\n'.encode("latin-1")),
        ("escape.py", b'x = "\\d"\n'),
        ("zero.ipynb", b'{"cells": []}'),
    ],
)
def test_what_is_odd_but_whole(name, content, entry, recwarn):
    assert entry(content, name).problems == ()
    assert not recwarn.list


def test_another_language_is_not_read_as_python(entry, notebook):
    found = entry(notebook("x <- 3", kernelspec={"language": "R"}), "x.ipynb")
    assert found.problems == ("written in R, not in Python",)


def test_one_broken_cell_leaves_the_others(entry, notebook):
    found = entry(notebook("def a(): pass", "def broken(:", ("words", "raw"), "def b(): pass"), "x.ipynb")
    assert found.functions == ("a", "b")
    (problem,) = found.problems
    assert problem.startswith("cell 2: syntax error: ")


def test_magics_are_blanked_out(entry, notebook):
    cells = [
        "%matplotlib inline\n!pip install x \\\n    y\nimport os\nfiles = !ls\nt = %timeit -o 1\nos?\nif files:\n    !echo\n",
        "%%bash\nrm -rf $x",
        "%%time\ndef timed(): pass",
        "%%writefile -a notes.txt\nthese are words",
        's = """\n%no magic, a line of a string\n"""\nwrong = 3 != 4',
    ]
    found = entry(notebook(*cells), "x.ipynb")
    assert found.problems == ()
    assert (found.imports, found.functions, found.artifacts) == (("os",), ("timed",), ("notes.txt",))


def test_lines_keep_their_numbers_without_magics():
    assert (
        without_magics("!a \\\n  b\nx = !ls\nif x:\n    %b\ny = 5 % 3")
        == "pass\n\nx = None\nif x:\n    pass\ny = 5 % 3"
    )


def test_notebooks_of_the_third_format(entry):
    old = {
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "source": ["Old", " one"]},
                    {"cell_type": "code", "input": "import os"},
                ]
            }
        ]
    }
    found = entry(json.dumps(old).encode(), "x.ipynb")
    assert (found.purpose, found.imports, found.problems) == ("Old one", ("os",), ())


PURPOSES = {
    "docstring": ("x.py", '"""First words\nof it.\n\nMore."""\n', "First words of it."),
    "comment": (
        "x.py",
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\n# Trains a\n# thing\nx = 1  # no\n",
        "Trains a thing",
    ),
    "inner docstring": ("x.py", "x = 1\ndef f():\n    'Does it.'\n", "Does it."),
    "docstring of a broken script": ("x.py", "# Says what\ndef f(:\n", "Says what"),
    "nothing": ("x.py", "x = 1\n", ""),
    "long": ("x.py", "# " + "word " * 60, ("word " * 39).strip() + "…"),
}


@pytest.mark.parametrize("name", PURPOSES)
def test_purpose_of_a_script(name, entry):
    path, content, purpose = PURPOSES[name]
    assert entry(content, path).purpose == purpose


def test_purpose_of_a_notebook_is_its_first_heading(entry, notebook):
    assert (
        entry(notebook(("words first", "markdown"), "x = 1", ("a\n## The idea\n# no", "markdown")), "x.ipynb").purpose
        == "The idea"
    )
    assert entry(notebook(("---\nonly words", "markdown")), "x.ipynb").purpose == "only words"
    assert entry(notebook("def f():\n    'Inside.'"), "x.ipynb").purpose == "Inside."


def test_text_that_no_file_can_hold_is_escaped(entry):
    found = entry('"""Smile \\ud83d and \\x1b[31mred."""\nopen("a\\ud800", "w")\n')
    assert found.purpose == r"Smile \ud83d and \x1b[31mred."
    assert found.artifacts == (r"a\ud800",)
