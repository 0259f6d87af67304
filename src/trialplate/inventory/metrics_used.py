"""Which metrics a file uses, by rule: names it gives to a recorder, and functions of measuring libraries that it calls.

Recorded: the literal first argument of a call of `record`, `measure`, `log_metric` or `add_scalar`, and the literal keys of the dict that
`log_metrics` or `wandb.log` is given. Called: anything of `trialplate.metrics`, `sklearn.metrics`, `torchmetrics`, `torcheval.metrics` or
`evaluate`, the losses of `torch.nn.functional`, and the classes `torch.nn.*Loss`."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from trialplate.inventory.names import full_name

RECORDERS = {"record", "measure", "log_metric", "add_scalar"}
LIBRARIES = ("trialplate.metrics", "sklearn.metrics", "torchmetrics", "torcheval.metrics", "evaluate")
FUNCTIONAL = "torch.nn.functional."
LOSSES = {"cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"}


def metrics_used(nodes: Iterable[ast.AST], meaning: dict[str, str]) -> list[str]:
    """Sorted names: "accuracy" in quotes was recorded, sklearn.metrics.f1_score was called."""
    found: set[str] = set()
    for call in nodes:
        if isinstance(call, ast.Call):
            name = full_name(call.func, meaning)
            found |= {f'"{text}"' for text in _recorded(call, name)}
            if _measures(name):
                found.add(name)
    return sorted(found)


def _recorded(call: ast.Call, name: str) -> list[str]:
    last = call.func.attr if isinstance(call.func, ast.Attribute) else name
    first = call.args[0] if call.args else None
    if last in RECORDERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return [first.value]
    if (last == "log_metrics" or name == "wandb.log") and isinstance(first, ast.Dict):
        return [k.value for k in first.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)]
    return []


def _measures(name: str) -> bool:
    if any(name.startswith(library + ".") for library in LIBRARIES):
        return True
    if name.startswith(FUNCTIONAL):
        function = name.removeprefix(FUNCTIONAL)
        return function in LOSSES or function.endswith("_loss")
    return name.startswith("torch.nn.") and name.count(".") == 2 and name.endswith("Loss")
