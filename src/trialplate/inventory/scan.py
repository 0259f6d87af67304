"""The scan: a folder in, an inventory out. Nothing of the folder is imported or run."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from trialplate.inventory.artifacts import artifacts_written
from trialplate.inventory.classes import classes_of, repeated, with_modules_marked
from trialplate.inventory.files import Listed, listed
from trialplate.inventory.metrics_used import metrics_used
from trialplate.inventory.model import ClassFound, Entry, Inventory
from trialplate.inventory.names import everything, imported, statements
from trialplate.inventory.source import Source, read_notebook, read_script
from trialplate.report.plain import printable

LONGEST_PURPOSE = 200


class _Read(NamedTuple):
    entry: Entry
    classes: list[ClassFound]
    definitions: dict[str, str]


def scan(folder: Path | str) -> Inventory:
    """Everything about the notebooks and scripts below a folder. FolderError where it is none or cannot be read."""
    folder = Path(folder)
    files = listed(folder)
    stems = Counter(_stem(file.name) for file in files)
    read = [_read(file, may_have_twin=stems[_stem(file.name)] > 1) for file in files]
    classes = with_modules_marked([c for r in read for c in r.classes])
    modules = {(c.path, c.name) for c in classes if c.is_module}
    entries = _with_twins([_with_modules(r.entry, modules) for r in read], {r.entry.path: r.definitions for r in read})
    twins = {e.path for e in entries if e.twin and not e.twin_differs}
    found = Inventory(folder.resolve().name or str(folder), tuple(entries), tuple(repeated(classes, twins)))
    return msgspec.convert(_shown(msgspec.to_builtins(found)), Inventory)


def _shown(data: Any) -> Any:
    """The same with text that any file and terminal can take: lone surrogates and control characters, which strings of code may hold, as escapes."""
    if isinstance(data, str):
        return re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", lambda m: ascii(m[0])[1:-1], printable(data))
    if isinstance(data, dict):
        return {name: _shown(value) for name, value in data.items()}
    return [_shown(value) for value in data] if isinstance(data, (list, tuple)) else data


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)


def _read(file: Listed, *, may_have_twin: bool) -> _Read:
    kind = "notebook" if file.path.suffix.lower() == ".ipynb" else "folder" if file.name.endswith("/") else "script"
    if file.problem:
        return _Read(Entry(file.name, kind, problems=(file.problem,)), [], {})
    try:
        data = file.path.read_bytes()
    except OSError as e:
        return _Read(Entry(file.name, kind, problems=(f"cannot be read: {e.strerror or e}",)), [], {})
    source = read_notebook(data) if kind == "notebook" else read_script(data)
    entry, classes = _described(file.name, kind, source)
    return _Read(entry, classes, _definitions(source.body) if may_have_twin else {})


def _described(path: str, kind: str, source: Source) -> tuple[Entry, list[ClassFound]]:
    body = source.body
    nodes = everything(body)
    imports, meaning = imported(nodes)
    classes = classes_of(path, source.parts)
    functions = [s.name for s in statements(body) if isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef))]
    entry = Entry(
        path=path,
        kind=kind,
        purpose=_purpose(kind, source, nodes),
        imports=tuple(imports),
        classes=tuple(dict.fromkeys(c.name for c in classes)),
        functions=tuple(dict.fromkeys(functions)),
        metrics=tuple(metrics_used(nodes, meaning)),
        artifacts=tuple(sorted({*artifacts_written(nodes, body, meaning), *source.written})),
        problems=tuple(source.problems),
    )
    return entry, classes


def _definitions(body: list[ast.stmt]) -> dict[str, str]:
    """{name: code} of functions and classes at the top level; the last of a name counts, as it would when run."""
    found = {}
    for s in statements(body):
        if isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            try:
                found[s.name] = ast.dump(s)
            except RecursionError:
                found[s.name] = f"too deeply nested, line {s.lineno}"
    return found


def _purpose(kind: str, source: Source, nodes: Iterable[ast.AST]) -> str:
    """First words: the docstring of a script or its first comment, the first heading of a notebook, else the first docstring in the file."""
    own = ast.get_docstring(ast.Module(source.body, [])) if kind == "script" and source.body else None
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    inside = (ast.get_docstring(n) for n in nodes if isinstance(n, documented))
    text = own or source.heading or next((d for d in inside if d), "")
    first = " ".join(text.strip().split("\n\n")[0].split())
    return first if len(first) <= LONGEST_PURPOSE else first[: LONGEST_PURPOSE - 1].rsplit(" ", 1)[0] + "…"


def _with_modules(entry: Entry, modules: set[tuple[str, str]]) -> Entry:
    own = tuple(c for c in entry.classes if (entry.path, c) in modules)
    return msgspec.structs.replace(entry, modules=own, classes=tuple(c for c in entry.classes if c not in own))


def _with_twins(entries: list[Entry], definitions: dict[str, dict[str, str]]) -> list[Entry]:
    """A notebook beside a script of the same name is its twin: which definitions it holds otherwise, lacks, or adds."""
    scripts = {_stem(e.path): e for e in entries if e.kind == "script"}
    found = []
    for entry in entries:
        script = scripts.get(_stem(entry.path)) if entry.kind == "notebook" else None
        if script and definitions[script.path]:
            ours, theirs = definitions[entry.path], definitions[script.path]
            differs = tuple(name for name in theirs if ours.get(name) != theirs[name])
            adds = tuple(name for name in ours if name not in theirs)
            entry = msgspec.structs.replace(entry, twin=script.path, twin_differs=differs, twin_adds=adds)
        found.append(entry)
    return found
