"""The Python of a file, parsed and never run: one part for a script, one a cell for a notebook. What cannot be parsed is said and left out."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Part:
    """Statements that were parsed together; `cell` counts a notebook's cells from 1, of all kinds."""

    body: list[ast.stmt]
    cell: int | None = None


@dataclass
class Source:
    """A script or notebook: parsed parts, the first words about it outside of code, files that cells write by magic, and what went wrong."""

    parts: list[Part] = field(default_factory=list)
    heading: str = ""
    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def body(self) -> list[ast.stmt]:
        """All statements in order."""
        return [statement for part in self.parts for statement in part.body]


def read_script(data: bytes) -> Source:
    """A script in the encoding that it declares, UTF-8 otherwise."""
    source = Source()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except (SyntaxError, UnicodeDecodeError, LookupError) as e:
        source.problems.append(
            f"not readable as text: {_reason(e)}; save it as UTF-8, or declare its encoding in the first line"
        )
        return source
    tree = _parsed(text)
    if isinstance(tree, str):
        source.problems.append(tree)
    else:
        source.parts.append(Part(tree.body))
    source.heading = _leading_comment(text)
    return source


def read_notebook(data: bytes) -> Source:
    """A notebook of format 3 or 4. Cells that are no Python (magics such as %%bash, raw cells) count as empty."""
    source = Source()
    if not data.strip():
        source.problems.append("no notebook: an empty file")
        return source
    cells = _cells(data)
    if isinstance(cells, str):
        source.problems.append(cells)
        return source
    for number, cell in enumerate(cells, 1):
        kind, text = _kind_and_text(cell)
        if text is None:
            source.problems.append(f"cell {number}: no text in it")
        elif kind == "code":
            _add_code(source, number, text)
        elif kind in ("markdown", "heading") and not source.heading.startswith("#"):
            source.heading = _first_heading(text, kind) or source.heading
    source.heading = source.heading.lstrip("#").strip()
    return source


def _cells(data: bytes) -> list[Any] | str:
    """The cells, or what is wrong with the notebook."""
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as e:
        return f"no notebook: not JSON ({_reason(e)})"
    if not isinstance(notebook, dict):
        return "no notebook: wanted a JSON object with cells"
    if language := _other_language(notebook.get("metadata")):
        return f"written in {language}, not in Python"
    cells = notebook.get("cells")
    if cells is None and isinstance(sheets := notebook.get("worksheets"), list):  # format 3
        cells = [c for s in sheets if isinstance(s, dict) and isinstance(s.get("cells"), list) for c in s["cells"]]
    if not isinstance(cells, list):
        return "no notebook: wanted a list of cells"
    return cells


def _other_language(metadata: Any) -> str:
    if not isinstance(metadata, dict):
        return ""
    for place, key in (("language_info", "name"), ("kernelspec", "language")):
        named = metadata.get(place)
        language = named.get(key) if isinstance(named, dict) else None
        if isinstance(language, str) and language:
            return "" if language.lower() in ("python", "python3", "ipython") else language
    return ""


def _kind_and_text(cell: Any) -> tuple[str, str | None]:
    if not isinstance(cell, dict):
        return "", None
    text = cell.get("source", cell.get("input"))
    if isinstance(text, list) and all(isinstance(line, str) for line in text):
        text = "".join(text)
    return str(cell.get("cell_type")), text if isinstance(text, str) else None


def _first_heading(text: str, kind: str) -> str:
    """The first heading of a Markdown cell (it begins with #), or its first line of words."""
    lines = [line.strip() for line in text.splitlines()]
    if kind == "heading":
        return "#" + " ".join(lines)
    headings = [line for line in lines if re.match(r"#+\s*\S", line)]
    return next(iter(headings or [line for line in lines if re.search(r"\w", line)]), "")


def _add_code(source: Source, number: int, text: str) -> None:
    cell_magic = re.match(r"\s*%%(\w+)[ \t]*(.*)", text)
    if cell_magic:
        if cell_magic[1] in ("writefile", "file") and cell_magic[2]:
            source.written.append(cell_magic[2].split()[-1])
        if cell_magic[1] not in ("time", "timeit", "capture", "prun", "python", "python3", "debug"):
            return
        text = text[: cell_magic.start()] + "\n" * text[: cell_magic.end()].count("\n") + text[cell_magic.end() :]
    tree = _parsed(text)
    if isinstance(tree, str):  # only where it is no Python as it stands: a line of a string may begin with % too
        tree = _parsed(without_magics(text))
    if isinstance(tree, str):
        source.problems.append(f"cell {number}: {tree}")
    else:
        source.parts.append(Part(tree.body, number))


def without_magics(text: str) -> str:
    """A cell with the lines of IPython's own blanked out: %magic, !command, name? and `x = !command`. Line numbers stay."""
    lines, continues = [], False
    for line in text.split("\n"):
        bare = line.strip()
        assigned = re.match(r"(\s*[\w., \[\]]+=\s*)[!%](?!=)", line)
        is_magic = bare.startswith(("%", "!", "?")) or re.fullmatch(r"[\w.*\[\]]+\?{1,2}", bare)
        if continues:
            kept = ""
        elif is_magic:
            kept = line[: len(line) - len(line.lstrip())] + "pass"  # it may be the only line of a block
        else:
            kept = assigned[1] + "None" if assigned else line
        continues = bool(continues or is_magic or assigned) and bare.endswith("\\")
        lines.append(kept)
    return "\n".join(lines)


def _parsed(text: str) -> ast.Module | str:
    """The syntax tree, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in other people's strings
            return ast.parse(text)
    except SyntaxError as e:
        return f"syntax error: {e.msg}" + (f" (line {e.lineno})" if e.lineno else "")
    except (ValueError, RecursionError, MemoryError) as e:
        return f"not parsed: {_reason(e)}"


def _leading_comment(text: str) -> str:
    """The comment that a script begins with, without shebang and encoding."""
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("#!") or re.match(r"#.*coding[:=]", line) or (not line.strip() and not words):
            continue
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# \t"))
    return " ".join(words).strip()


def _reason(e: BaseException) -> str:
    return str(e).splitlines()[0][:200] if str(e) else type(e).__name__
