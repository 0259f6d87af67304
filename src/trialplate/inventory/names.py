"""What a dotted name in a file means: `F.cross_entropy` is `torch.nn.functional.cross_entropy` where the file imports it so."""

from __future__ import annotations

import ast
from collections.abc import Iterable


def unparsed(node: ast.AST) -> str:
    """The node as one line of code; an ellipsis where it is nested too deeply to be written."""
    try:
        return " ".join(ast.unparse(node).split())
    except RecursionError:
        return "…"


def imported(nodes: Iterable[ast.AST]) -> tuple[list[str], dict[str, str]]:
    """(modules that are imported anywhere, sorted; {name in the file: full dotted name})."""
    modules: set[str] = set()
    meaning: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.add(alias.name)
                meaning[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            modules |= {module} if node.module else {module + alias.name for alias in node.names}
            meaning |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    return sorted(modules), meaning


def full_name(node: ast.expr, meaning: dict[str, str]) -> str:
    """The dotted name that an expression stands for; empty where it is no plain chain of names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([meaning.get(node.id, node.id), *reversed(parts)])


def everything(body: Iterable[ast.stmt]) -> list[ast.AST]:
    """Every node below some statements."""
    return [node for statement in body for node in ast.walk(statement)]


def statements(body: Iterable[ast.stmt]) -> Iterable[ast.stmt]:
    """The statements of a body, and those inside its conditions, loops, try and with blocks; not those of functions and classes."""
    for statement in body:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for name in ("body", "handlers", "orelse", "finalbody", "cases"):
                inner = getattr(statement, name, ())
                for one in inner:
                    if isinstance(one, (ast.ExceptHandler, ast.match_case)):
                        yield from statements(one.body)
                    else:
                        yield from statements([one])
