"""Classes of a file as data, and how definitions of the same class differ."""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Iterable

import msgspec

from trialplate.inventory.model import ClassFound, Method, Repeated, Version
from trialplate.inventory.names import statements, unparsed
from trialplate.inventory.source import Part

MODULE_BASES = ("Module", "LightningModule")


def classes_of(path: str, parts: Iterable[Part]) -> list[ClassFound]:
    """Every class at the top level of a file and inside another class, in the order of the file."""
    return [found for part in parts for found in _classes(path, part.cell, part.body, "")]


def with_modules_marked(classes: list[ClassFound]) -> list[ClassFound]:
    """`is_module` for those that derive from a `Module`, directly or through other classes of the folder, by name."""
    modules = set(MODULE_BASES)

    def derives(found: ClassFound) -> bool:
        return any(_last(base) in modules for base in found.bases)

    while more := {_last(c.name) for c in classes if derives(c)} - modules:
        modules |= more
    return [msgspec.structs.replace(c, is_module=derives(c)) for c in classes]


def repeated(classes: list[ClassFound], twins: set[str]) -> list[Repeated]:
    """Classes that are defined more than once, by name. Files in `twins` hold the same definitions as another and are left out."""
    by_name: dict[str, list[ClassFound]] = {}
    for found in classes:
        if found.path not in twins:
            by_name.setdefault(found.name, []).append(found)
    return [Repeated(name, tuple(_versions(group))) for name, group in sorted(by_name.items()) if len(group) > 1]


def same_definition(a: ClassFound, b: ClassFound) -> bool:
    """Whether two definitions are the same code; comments, layout and where they stand do not count."""
    return (a.bases, a.decorators, a.methods, a.attributes) == (b.bases, b.decorators, b.methods, b.attributes)


def _versions(group: list[ClassFound]) -> list[Version]:
    kinds: list[list[ClassFound]] = []
    for found in group:
        equal = next((kind for kind in kinds if same_definition(kind[0], found)), None)
        if equal is None:
            kinds.append([found])
        else:
            equal.append(found)
    versions = []
    for n, kind in enumerate(kinds):
        places = tuple(found.where for found in kind)
        if n == 0:
            versions.append(Version(places))
        else:
            nearest = min((before[0] for before in kinds[:n]), key=lambda old: _distance(old, kind[0]))
            versions.append(Version(places, nearest.where, tuple(_differences(nearest, kind[0]))))
    return versions


def _distance(old: ClassFound, new: ClassFound) -> int:
    """How many lines only one of them has."""
    a, b = (
        Counter([*c.bases, *(line for m in (*c.methods, *c.attributes) for line in (m.name, *m.lines))])
        for c in (old, new)
    )
    return (a - b).total() + (b - a).total()


def _differences(old: ClassFound, new: ClassFound) -> list[str]:
    """Sentences on what `new` has other than `old`; none where they are equal."""
    said = []
    for what, was, now in (("bases", old.bases, new.bases), ("decorators", old.decorators, new.decorators)):
        if was != now:
            said.append(f"{what}: {', '.join(was) or 'none'} -> {', '.join(now) or 'none'}")
    for what, before, after in (("method", old.methods, new.methods), ("attribute", old.attributes, new.attributes)):
        said += _changed(what, {m.name: m for m in before}, {m.name: m for m in after})
    return said


def _changed(what: str, before: dict[str, Method], after: dict[str, Method]) -> list[str]:
    said = []
    if added := sorted(after.keys() - before.keys()):
        said.append(f"{what}s added: {', '.join(added)}")
    if removed := sorted(before.keys() - after.keys()):
        said.append(f"{what}s removed: {', '.join(removed)}")
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if old == new:
            continue
        changes = [line[0] for line in difflib.unified_diff(old.lines, new.lines, n=0, lineterm="")][2:]
        counted = f"+{changes.count('+')} -{changes.count('-')} lines"
        header = f", {old.header} -> {new.header}" if old.header != new.header else ""
        said.append(f"{what} {name} changed: {counted}{header}")
    return said


def _classes(path: str, cell: int | None, body: Iterable[ast.stmt], prefix: str) -> Iterable[ClassFound]:
    for node in statements(body):
        if isinstance(node, ast.ClassDef):
            name = prefix + node.name
            yield ClassFound(
                name=name,
                path=path,
                line=node.lineno,
                cell=cell,
                bases=tuple(unparsed(b) for b in [*node.bases, *node.keywords]),
                decorators=tuple(unparsed(d) for d in node.decorator_list),
                methods=tuple(_methods(node)),
                attributes=tuple(_attributes(node)),
            )
            yield from _classes(path, cell, node.body, name + ".")


def _methods(node: ast.ClassDef) -> Iterable[Method]:
    seen: dict[str, int] = {}
    for one in statements(node.body):
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
            seen[one.name] = seen.get(one.name, 0) + 1
            name = one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})"  # setters, overloads
            header = f"{one.name}({unparsed(one.args)})"
            yield Method(name, header, _lines(one))


def _attributes(node: ast.ClassDef) -> Iterable[Method]:
    for one in statements(node.body):
        if isinstance(one, ast.Assign):
            for target in one.targets:
                yield Method(unparsed(target), "", (unparsed(one.value),))
        elif isinstance(one, ast.AnnAssign):
            value = "" if one.value is None else unparsed(one.value)
            yield Method(unparsed(one.target), "", (unparsed(one.annotation), value))


def _lines(node: ast.AST) -> tuple[str, ...]:
    try:
        return tuple(ast.unparse(node).splitlines())
    except RecursionError:
        return ("…",)


def _last(base: str) -> str:
    return base.partition("[")[0].rpartition(".")[2]
