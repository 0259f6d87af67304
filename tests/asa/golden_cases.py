"""The golden cases of golden/asa: how a case becomes a call of our classes, and its numbers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import asa
from asa.interventions import setting

FOLDER = Path(__file__).parents[2] / "golden" / "asa"


@cache
def cases() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "index.json").read_text())["cases"]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [case for case in cases() if case["kind"] == kind]


def tensors(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    return load_file(FOLDER / case["file"])


def part(found: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def build_layer(case: dict[str, Any], found: dict[str, torch.Tensor]) -> torch.nn.Module:
    layer = getattr(asa, case["cls"])(**case["init"]).to(getattr(torch, case["dtype"]))
    layer.load_state_dict(part(found, "state."), strict=True)
    return layer.eval()


def arguments(case: dict[str, Any], found: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {**case["forward"], **{name: found[f"in.{name}"] for name in case["forward_tensors"]}}


def attributes(case: dict[str, Any], found: dict[str, torch.Tensor]) -> dict[str, Any]:
    chosen = {name: torch.tensor(v) if isinstance(v, list) else v for name, v in case["attrs"].items()}
    override = case.get("routing_override")
    if override and override["type"] == "tensor":
        chosen["routing_override"] = found["in.routing_override"]
    elif override:
        delta = found["in.logit_delta"]

        def additive(t0, t1, logits, by_key, by_content, ctx):
            return torch.softmax((logits + delta[:, None, t0:t1, :]) / ctx["rtemp"], dim=-1)

        chosen["routing_override"] = additive
    return chosen


def run_layer(case: dict[str, Any], *, return_info: bool = True) -> tuple[torch.Tensor, dict[str, Any] | None]:
    found = tensors(case)
    layer = build_layer(case, found)
    with setting(layer, **attributes(case, found)), torch.no_grad():
        return layer(found["in.x"], return_info=return_info, **arguments(case, found))
