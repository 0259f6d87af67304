"""Which files a file writes, by rule: the path argument of calls that write. What is known only at run time stands in braces.

`open` counts with a literal mode that writes. A name counts as its literal where the file binds it once, to a literal path."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence

from trialplate.inventory.names import full_name, statements, unparsed

# method or function: (position of the path, its keywords)
WRITERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "to_csv": (0, ("path_or_buf",)),
    "to_parquet": (0, ("path",)),
    "to_json": (0, ("path_or_buf",)),
    "to_pickle": (0, ("path",)),
    "to_excel": (0, ("excel_writer",)),
    "to_feather": (0, ("path",)),
    "savefig": (0, ("fname",)),
    "imsave": (0, ("fname",)),
    "write_image": (0, ("file",)),
    "write_html": (0, ("file",)),
    "save_pretrained": (0, ("save_directory",)),
    "save_file": (1, ("filename",)),
    "torch.save": (1, ("f",)),
    "torch.onnx.export": (2, ("f",)),
    "numpy.save": (0, ("file",)),
    "numpy.savez": (0, ("file",)),
    "numpy.savez_compressed": (0, ("file",)),
    "numpy.savetxt": (0, ("fname",)),
    "joblib.dump": (1, ("filename",)),
}
ON_PATHS = ("write_text", "write_bytes")  # the path is what they are called on
PATHS = ("pathlib.Path", "pathlib.PurePath", "Path", "os.path.join")


def artifacts_written(nodes: Sequence[ast.AST], body: Sequence[ast.stmt], meaning: dict[str, str]) -> list[str]:
    """Sorted paths; `nodes` is everything below the statements `body`."""
    paths = [path for call in nodes if isinstance(call, ast.Call) and (path := _path_of(call, meaning)) is not None]
    if not paths:
        return []
    known = _literals(nodes, body)
    return sorted({_shown(path, meaning, known) for path in paths})


def _path_of(call: ast.Call, meaning: dict[str, str]) -> ast.expr | None:
    """The expression of the path that a call writes to; None where it writes none."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = full_name(call.func, meaning)
    if method in ON_PATHS and isinstance(call.func, ast.Attribute):
        return call.func.value
    if name in ("open", "io.open", "builtins.open", "gzip.open") or method == "open":
        return _opened(call, is_method=name not in ("open", "io.open", "builtins.open", "gzip.open"))
    for writer in (name, name.rpartition(".")[2], method):
        if writer in WRITERS:
            position, keywords = WRITERS[writer]
            return _argument(call, position, keywords)
    return None


def _opened(call: ast.Call, *, is_method: bool) -> ast.expr | None:
    mode = _argument(call, 0 if is_method else 1, ("mode",))
    if not (isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) & set("wax+")):
        return None
    if set(mode.value) - set("rwaxbtU+"):  # no mode: another kind of open
        return None
    return (
        call.func.value
        if is_method and isinstance(call.func, ast.Attribute)
        else _argument(call, 0, ("file", "filename"))
    )


def _argument(call: ast.Call, position: int, keywords: tuple[str, ...]) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg in keywords:
            return keyword.value
    if position < len(call.args) and not any(isinstance(a, ast.Starred) for a in call.args[: position + 1]):
        return call.args[position]
    return None


def _literals(nodes: Iterable[ast.AST], body: Iterable[ast.stmt]) -> dict[str, ast.expr]:
    """Names that the file binds once and nowhere as a parameter, by an assignment at its top level, and to what."""
    bound: Counter[str] = Counter()
    for n in nodes:
        if isinstance(n, ast.arg):
            bound[n.arg] += 1
        elif isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
            bound[n.id] += 1
    return {
        s.targets[0].id: s.value
        for s in statements(body)
        if isinstance(s, ast.Assign)
        and isinstance(s.targets[0], ast.Name)
        and len(s.targets) == 1
        and bound[s.targets[0].id] == 1
    }


def _shown(node: ast.expr, meaning: dict[str, str], known: dict[str, ast.expr], depth: int = 0) -> str:
    """A path expression as text: literals as they are, `/` and os.path.join joined, the rest in braces."""
    if depth > 20:
        return "{…}"

    def inner(part: ast.expr) -> str:
        return _shown(part, meaning, known, depth + 1)

    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(v.value) if isinstance(v, ast.Constant) else "{" + unparsed(getattr(v, "value", v)) + "}"
            for v in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return f"{inner(node.left).rstrip('/')}/{inner(node.right)}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return inner(node.left) + inner(node.right)
    if isinstance(node, ast.Call) and full_name(node.func, meaning) in PATHS and node.args:
        return "/".join(inner(a).rstrip("/") for a in node.args)
    if isinstance(node, ast.Name) and isinstance(
        known.get(node.id), (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Call)
    ):
        bound = inner(known[node.id])
        return bound if not bound.startswith("{") else "{" + node.id + "}"
    return "{" + unparsed(node) + "}"
