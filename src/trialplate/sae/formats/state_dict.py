"""Bare state dicts: one file of tensors without a description of its own, alone or in a container.

    layout A   encoder.weight [m, d], encoder.bias [m], decoder.weight [d, m], decoder.bias [d] or none         nothing taken off the input;
               topk keeps the k largest as they are, negative ones too
    layout B   W_enc [d, m], b_enc [m], W_dec [m, d], b_dec [d] or none; k []; threshold [m] or [], or log_threshold [m]         x - b_dec; relu before topk

A container holds them under `model_state_dict` or `sae_state_dict` and may say more beside them, or under `config` or `metadata`: architecture, k, d_model,
d_sae. What the function is must be said there or by the caller, but for two cases that the tensors decide: k with one threshold is batchtopk, k alone is
topk, thresholds alone are jumprelu. Four tensors alone could be relu or topk of any k, and are refused rather than guessed. Dead rows stay dead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.errors import FormatError
from trialplate.sae.formats.assembly import assemble, configure
from trialplate.sae.formats.settings import Settings
from trialplate.sae.formats.tensors import Stored, Tensors, flat, read_safetensors, read_torch

_CONTAINERS = ("model_state_dict", "sae_state_dict")
_BESIDE = ("config", "metadata")
_A, _B = ("encoder.weight", "encoder.bias", "decoder.weight"), ("W_enc", "b_enc", "W_dec")
_OPTIONAL_A, _OPTIONAL_B = ("decoder.bias",), ("b_dec", "k", "threshold", "log_threshold")
_ALIASES = {
    "standard": "relu",
    "top_k": "topk",
    "batch_topk": "batchtopk",
    "batch_top_k": "batchtopk",
    "batchtop_k": "batchtopk",
    "jump_relu": "jumprelu",
    "matryoshka": "topk",
    "matryoshka_topk": "topk",
    "matryoshka_batchtopk": "batchtopk",
    "matryoshka_batch_topk": "batchtopk",
}
_KNOWN = ("relu", "topk", "batchtopk", "jumprelu")


def read(path: Path | str, *, architecture: str | None = None, k: int | None = None) -> Coder:
    """The coder in a file. What the caller says counts before what the file says.

    FormatError for other tensors, for an architecture that nobody says, and for one that is none of relu, topk, batchtopk, jumprelu (a routed coder of
    layout A chooses signed latents in its slice, which no coder here does)."""
    path = Path(path)
    tensors, said = _opened(path)
    if "encoder.weight" in tensors:
        return _layout_a(tensors, said, architecture, k)
    return _layout_b(tensors, said, architecture, k)


def _opened(path: Path) -> tuple[Tensors, Settings]:
    if path.suffix == ".safetensors":
        return read_safetensors(path), Settings({}, path)
    content = read_torch(path)
    inside = [name for name in _CONTAINERS if name in content]
    if len(inside) > 1:
        raise FormatError(f"{path} holds {' and '.join(inside)}; which of them is the coder cannot be told")
    if not inside:
        return flat(content, path), Settings({}, path)
    if not isinstance(content[inside[0]], Mapping):
        raise FormatError(f"{path}: wanted {inside[0]} to be a state dict, got {type(content[inside[0]]).__name__}")
    return flat(content[inside[0]], f"{path}, {inside[0]}"), Settings(_beside(content), path)


def _beside(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain entries of a container: those of its descriptions, and before them those at its top."""
    entries: dict[str, Any] = {}
    for part in (*(content.get(name) for name in _BESIDE), content):
        if isinstance(part, Mapping):
            entries |= {n: v for n, v in part.items() if isinstance(n, str) and isinstance(v, str | int | float)}
    return entries


def _layout_a(tensors: Tensors, said: Settings, architecture: str | None, k: int | None) -> Coder:
    tensors.exact(_A, _OPTIONAL_A)
    architecture = _architecture(tensors, said, architecture)
    if architecture in ("jumprelu", "batchtopk"):
        raise FormatError(f"{tensors.where}: {architecture} needs a threshold, and layout A has none")
    m = tensors.length("encoder.bias")
    d = _other_side(tensors, "encoder.weight", m)
    taken = _matrices(tensors, _A, m, d, ("latents first", "channels first"))
    taken["b_dec"] = tensors.take("decoder.bias", d) if "decoder.bias" in tensors else torch.zeros(d)
    k = _k(tensors, said, k) if architecture == "topk" else None
    return _built(tensors, said, taken, architecture=architecture, k=k, signed=k is not None, centre_input=False)


def _layout_b(tensors: Tensors, said: Settings, architecture: str | None, k: int | None) -> Coder:
    tensors.exact(_B, _OPTIONAL_B)
    architecture = _architecture(tensors, said, architecture)
    m = tensors.length("b_enc")
    d = _other_side(tensors, "W_enc", m)
    taken = _matrices(tensors, _B, m, d, ("channels first", "latents first"))
    taken["b_dec"] = tensors.take("b_dec", d) if "b_dec" in tensors else torch.zeros(d)
    if architecture == "jumprelu":
        taken["threshold"] = _thresholds(tensors, m)
    elif architecture == "batchtopk":
        value = tensors.number("threshold") if "threshold" in tensors else math.nan
        taken["threshold"] = torch.tensor(value if value >= 0 else math.nan)  # below zero: never estimated
    k = _k(tensors, said, k) if architecture in ("topk", "batchtopk") else None
    return _built(tensors, said, taken, architecture=architecture, k=k)


def _architecture(tensors: Tensors, said: Settings, given: str | None) -> str:
    named = given or said.text("architecture")
    if named:
        name = named.lower().replace("-", "_").removesuffix("_sae")
        name = _ALIASES.get(name, name)
        if name not in _KNOWN:
            raise FormatError(
                f"{tensors.where}: no coder of a bare state dict is {named!r}; read are {', '.join(_KNOWN)}"
            )
        return name
    if "k" in tensors:
        return "batchtopk" if "threshold" in tensors and tensors.tensors["threshold"].numel() == 1 else "topk"
    if "threshold" in tensors or "log_threshold" in tensors:
        return "jumprelu"
    raise FormatError(
        f"{tensors.where}: nothing says whether this is a relu or a topk coder, and guessing would evaluate another function than was trained; "
        "read it with trialplate.sae.formats.state_dict.read(path, architecture=..., k=...)"
    )


def _other_side(tensors: Tensors, name: str, m: int) -> int:
    """d, from a matrix one of whose sides is m."""
    shape = list(tensors.tensors[name].shape)
    if len(shape) != 2 or m not in shape:
        raise FormatError(f"{tensors.where}: wanted {name} to have a side of {m}, the number of latents, got {shape}")
    return shape[1] if shape[0] == m else shape[0]


def _matrices(
    tensors: Tensors, names: tuple[str, str, str], m: int, d: int, stored: tuple[Stored, Stored]
) -> dict[str, Tensor]:
    encoder, bias, decoder = names
    return {
        "encoder": tensors.latents_first(encoder, m, d, stored=stored[0]),
        "b_enc": tensors.take(bias, m),
        "W_dec": tensors.latents_first(decoder, m, d, stored=stored[1]),
    }


def _thresholds(tensors: Tensors, m: int) -> Tensor:
    if ("threshold" in tensors) == ("log_threshold" in tensors):
        raise FormatError(f"{tensors.where}: wanted threshold or log_threshold of a jumprelu coder, one of them")
    return tensors.take("threshold", m) if "threshold" in tensors else tensors.take("log_threshold", m).exp()


def _k(tensors: Tensors, said: Settings, given: int | None) -> int:
    """k from the caller, the container or the tensors; where several say it, they must agree, but for the caller's."""
    stored = int(tensors.number("k")) if "k" in tensors else None
    if given is not None:
        return given
    if stored is None:
        return said.integer("k")
    said.agree(k=stored)
    return stored


def _built(tensors: Tensors, said: Settings, taken: dict[str, Tensor], **description: Any) -> Coder:
    m, d = taken["encoder"].shape
    said.agree(d_sae=m, d_model=d, d_in=d)
    site = said.text("hook_name") or said.text("site")
    about = {"format": "state_dict", "config": said.entries}
    config = configure(
        tensors.where,
        d_in=d,
        d_sae=m,
        site_in=site,
        site_out=site,
        model=said.text("model_name"),
        about=about,
        **description,
    )
    return assemble(config, taken)
