"""Sites: the names of places in a model, in one spelling, and what each means in the model at hand.

Canonical is `L{n}.{site}` (`L3.mlp_act`); the sites are those of `families.SITES`. Accepted too, and turned into the canonical name where there is one:

    blocks.3.hook_resid_post, blocks.3.mlp.hook_post, blocks.3.attn.hook_z, hook_embed     names of TransformerLens
    gpt_neox.layers.3.mlp.act.output, model.layers.3.self_attn.o_proj.input                a module's path with .input or .output
    transformer.h.3.mlp, gpt_neox.layers.3.mlp, model.layers.3.mlp                         a block's path alone: its hidden units, mlp_act
    3, 25%                                                                                 a layer, by number or by relative depth

Numbers are those of the Hugging Face modules. TransformerLens centres and folds weights when it loads a model unless told not to
(`from_pretrained_no_processing`); its residual stream then differs from this one by its mean over channels."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from trialplate.activations.errors import SiteError
from trialplate.activations.families import FAMILIES, SITES, Family
from trialplate.models.causal_lm import CausalLM

Side = Literal["input", "output"]
_CANONICAL = re.compile(r"[Ll](\d+)\.(\w+)")
_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")
_BLOCK = re.compile(r"(?:[A-Za-z_]\w*\.)+(\d+)\.(?:mlp|feed_forward)")
_DEPTH = re.compile(r"(\d+(?:\.\d+)?)%")
_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_attn_out": "attn_out",
    "hook_resid_mid": "resid_mid",
    "hook_mlp_out": "mlp_out",
    "hook_resid_post": "resid_post",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_post": "mlp_act",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A site of one model.

    name    canonical, or a module's path with .input or .output
    layer   its layer; None for the embedding and for raw paths
    path    the module's path in the model
    side    which side of the module is read
    record  the entry of the layer's own record that is read instead (slot_reads, slot_states), else ""
    note    what a reader must know about the name that was asked for, else "" """

    name: str
    layer: int | None
    path: str
    side: Side
    record: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DownProjection:
    """The second matrix of an MLP, whatever the module's own orientation: rows [d_ff, d_out], a view whose row i is what unit i writes."""

    path: str
    module: nn.Module
    rows: torch.Tensor
    bias: torch.Tensor | None


def family_of(model: CausalLM) -> Family:
    """The table of a model's architecture. SiteError for one that is not known; its modules can still be named by path."""
    kind = str(getattr(model.module.config, "model_type", ""))
    if kind not in FAMILIES:
        raise SiteError(
            f"{model.label}: no site map for the architecture {kind or type(model.module).__name__!r}; known: {', '.join(FAMILIES)}. "
            "Name a module by its path instead, with .input or .output"
        )
    return FAMILIES[kind]


def resolve(model: CausalLM, name: str) -> Point:
    """What a name means in a model. SiteError for one that means nothing there, with the nearest names that do."""
    if found := _CANONICAL.fullmatch(name):
        return _canonical(model, int(found[1]), found[2])
    if name == "hook_embed":
        return _embedding(model)
    if found := _HOOK.fullmatch(name):
        if (point := _hook(model, int(found[1]), found[2])) is not None:
            return point
        if "hook" in found[2]:
            raise SiteError(_no_hook(model, name, found[2]))
    if name.endswith((".input", ".output")):
        return _raw(model, name)
    if found := _BLOCK.fullmatch(name):
        return _block(model, name, int(found[1]))
    raise SiteError(
        f"{model.label}: no site {name!r}; wanted L0.mlp_act, a hook name, or a module's path with .input or .output{_near(model, name)}"
    )


def choose(model: CausalLM, names: Iterable[str], site: str = "mlp_act") -> list[Point]:
    """The points of several names, each once, in the order asked for. A number or a depth (25%) means `site` of that layer, * of all layers.

    Raises SiteError for no name at all, and as `resolve` does."""
    asked = [part for name in names for part in re.split(r"[,\s]+", str(name)) if part]
    if not asked:
        raise SiteError(
            f"{model.label}: no site was named; wanted layers such as 0, 25%, *, or sites such as L0.mlp_act"
        )
    found: dict[str, Point] = {}
    for name in asked:
        for point in _several(model, name, site):
            found.setdefault(point.name, point)
    return list(found.values())


def layer_at_depth(n_layers: int, percent: float) -> int:
    """The layer at a relative depth: percent of the number of layers, halves rounded up, at most the last one."""
    if not 0 <= percent <= 100:
        raise SiteError(f"a depth lies between 0% and 100%, got {percent:g}%")
    return min(n_layers - 1, math.floor(percent / 100 * n_layers + 0.5))


def sites_of(model: CausalLM, layer: int) -> list[str]:
    """The canonical names of a layer's sites in this model, in the order of computation."""
    family = family_of(model)
    absent = family.absent(model.module.config)
    order = [*SITES, *family.records]
    return [f"L{layer}.{site}" for site in order if site in family.sites and site not in absent]


def down_projection(model: CausalLM, layer: int) -> DownProjection:
    """The down projection of a layer's MLP. SiteError for an unknown architecture or layer."""
    family = family_of(model)
    path = _path(model, family, layer, family.down)
    module: Any = _module(model, path)
    base = getattr(module, "base_layer", module)  # an adapter's layer keeps the matrix inside
    weight = base.weight if base is module else _adapted(model, module, base.weight)
    rows = weight if type(base).__name__ == "Conv1D" else weight.T  # Conv1D stores [in, out], Linear [out, in]
    return DownProjection(path, module, rows, getattr(base, "bias", None))


@torch.no_grad()
def _adapted(model: CausalLM, module: Any, weight: torch.Tensor) -> torch.Tensor:
    """The matrix that an adapter's layer computes with."""
    active = [name for name in module.active_adapters if name in getattr(module, "lora_A", {})]
    if sorted(active) != sorted(module.active_adapters) or module.merged:
        raise SiteError(
            f"{model.label}: what its adapter makes of a down projection is not known here; merge the adapter into the weights first"
        )
    for name in active:
        weight = weight + module.get_delta_weight(name)
    return weight


def module_at(model: CausalLM, point: Point) -> nn.Module:
    """The module that a point reads."""
    return _module(model, point.path)


def _several(model: CausalLM, name: str, site: str) -> Sequence[Point]:
    if name == "*":
        return [_canonical(model, layer, site) for layer in range(model.n_layers)]
    if name.isdecimal():
        return [_canonical(model, int(name), site)]
    if found := _DEPTH.fullmatch(name):
        return [_canonical(model, layer_at_depth(model.n_layers, float(found[1])), site)]
    return [resolve(model, name)]


def _canonical(model: CausalLM, layer: int, site: str) -> Point:
    family = family_of(model)
    name = f"L{layer}.{site}"
    _require_layer(model, layer, name)
    if why := family.absent(model.module.config).get(site):
        raise SiteError(
            f"{model.label} has no {name}: {why} ({type(model.module).__name__}). Nearest: L{layer}.resid_pre, L{layer}.resid_post"
        )
    if site not in family.sites:
        raise SiteError(f"{model.label}: no site {name!r}{_near(model, name)}")
    inner, _, side = family.sites[site].rpartition(".")
    path = _path(model, family, layer, inner)
    return Point(name, layer, path, side, site if site in family.records else "")  # type: ignore[arg-type]


def _embedding(model: CausalLM) -> Point:
    path = _full_path(model, family_of(model).embed)
    return Point(f"{path}.output", None, path, "output")


def _hook(model: CausalLM, layer: int, hook: str) -> Point | None:
    if hook in _HOOKS:
        return _canonical(model, layer, _HOOKS[hook])
    family = family_of(model) if hook == "attn.hook_z" else None
    if family is None or not family.heads:
        return None
    _require_layer(model, layer, f"blocks.{layer}.{hook}")
    path = _path(model, family, layer, family.heads)
    return Point(f"{path}.input", layer, path, "input")


def _no_hook(model: CausalLM, name: str, hook: str) -> str:
    if hook.endswith("hook_normalized"):
        return (
            f"{model.label}: {name!r} stands before the scale and bias of a norm, which the modules of this model do not show; "
            "what comes after them is the norm's path with .output"
        )
    known = ", ".join([*_HOOKS, "attn.hook_z"])
    return f"{model.label}: no hook {name!r}; of a block, these are known: {known}"


def _raw(model: CausalLM, name: str) -> Point:
    path, _, side = name.rpartition(".")
    if path not in dict(model.module.named_modules()):
        raise SiteError(f"{model.label}: no module {path!r}{_near_module(model, path)}")
    return Point(name, None, path, side)  # type: ignore[arg-type]


def _block(model: CausalLM, name: str, layer: int) -> Point:
    point = _canonical(model, layer, "mlp_act")
    family = family_of(model)
    here = f"{family.layers}.{layer}.mlp"
    other = "" if name == here else f" {type(model.module).__name__} keeps its layers at {family.layers}."
    note = f"{name} was taken to mean {point.name}, the hidden units of that block (not its output, of which about half is positive in any model).{other}"
    return Point(point.name, point.layer, point.path, point.side, point.record, note)


def _require_layer(model: CausalLM, layer: int, name: str) -> None:
    if layer >= model.n_layers:
        raise SiteError(
            f"{model.label}: no site {name!r}: the model has layers 0 to {model.n_layers - 1}. The last is L{model.n_layers - 1}; a relative depth such as 50% fits any model"
        )


def _path(model: CausalLM, family: Family, layer: int, inner: str) -> str:
    _require_layer(model, layer, f"L{layer}")
    return _full_path(model, ".".join(part for part in (family.layers, str(layer), inner) if part))


def _full_path(model: CausalLM, path: str) -> str:
    """The path of a module in this very model: a wrapper puts its own names before it."""
    names = [name for name, _ in model.module.named_modules() if name == path or name.endswith("." + path)]
    if not names:
        raise SiteError(
            f"{model.label}: its {type(model.module).__name__} has no module {path!r}{_near_module(model, path)}"
        )
    return min(names, key=len)


def _module(model: CausalLM, path: str) -> nn.Module:
    module: nn.Module = model.module.get_submodule(path)
    return module


def _near(model: CausalLM, name: str) -> str:
    kind = str(getattr(model.module.config, "model_type", ""))
    if kind not in FAMILIES:
        return _near_module(model, name)
    known = [site for layer in range(model.n_layers) for site in sites_of(model, layer)]
    close = difflib.get_close_matches(name, known, 3, 0.5) or sites_of(model, 0)
    return f". Nearest: {', '.join(close)}"


def _near_module(model: CausalLM, path: str) -> str:
    known = [name for name, _ in model.module.named_modules() if name]
    close = difflib.get_close_matches(path, known, 3, 0.5)
    return f". Nearest: {', '.join(f'{name}.output' for name in close)}" if close else ""
