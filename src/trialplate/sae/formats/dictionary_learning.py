"""Files of dictionary_learning: config.json and ae.pt, or a snapshot checkpoints/ae_N.pt below the config.json of its run.

    AutoEncoder             bias [d], encoder.weight [m, d], encoder.bias [m], decoder.weight [d, m]                          relu of x - bias
    AutoEncoderNew          encoder.weight, encoder.bias, decoder.weight, decoder.bias [d]                                    relu of x
    GatedAutoEncoder        decoder_bias [d], encoder.weight, gate_bias, mag_bias, r_mag [m], decoder.weight                  gated of x - decoder_bias
    JumpReluAutoEncoder     W_enc [d, m], b_enc [m], W_dec [m, d], b_dec [d], threshold [m]                                   jumprelu of x
    AutoEncoderTopK         b_dec, k [], threshold [], encoder.weight, encoder.bias, decoder.weight                           topk of x - b_dec
    BatchTopKSAE            the same                                                                                          batchtopk of x - b_dec
    MatryoshkaBatchTopKSAE  W_enc, b_enc, W_dec, b_dec, k, threshold, group_sizes [groups]                                    batchtopk of x - b_dec

A threshold below zero was never estimated: a batchtopk coder then has none (a relu is what the class computes of it, which is not what was trained). The
weights stay as stored; the class of AutoEncoder rescales its decoder to unit norm on loading, as `folding.with_unit_decoder` does."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.config import Architecture
from trialplate.sae.errors import FormatError
from trialplate.sae.formats.assembly import assemble, configure
from trialplate.sae.formats.settings import Settings, read_settings
from trialplate.sae.formats.tensors import Tensors, flat, read_torch


@dataclass(frozen=True, slots=True)
class _Class:
    """A dict_class: what it is here, and what its vectors are called. `linear`: matrices are those of nn.Linear, [out, in]."""

    architecture: Architecture
    b_dec: str
    biases: tuple[tuple[str, str], ...] = (("b_enc", "encoder.bias"),)
    centred: bool = True
    linear: bool = True
    extra: tuple[str, ...] = ()


_ENC = (("b_enc", "b_enc"),)
_GATED = (("b_gate", "gate_bias"), ("b_mag", "mag_bias"), ("r_mag", "r_mag"))
_CLASSES = {
    "AutoEncoder": _Class("relu", "bias"),
    "AutoEncoderNew": _Class("relu", "decoder.bias", centred=False),
    "GatedAutoEncoder": _Class("gated", "decoder_bias", _GATED),
    "JumpReluAutoEncoder": _Class("jumprelu", "b_dec", _ENC, centred=False, linear=False, extra=("threshold",)),
    "AutoEncoderTopK": _Class("topk", "b_dec", extra=("k", "threshold")),
    "BatchTopKSAE": _Class("batchtopk", "b_dec", extra=("k", "threshold")),
    "MatryoshkaBatchTopKSAE": _Class("batchtopk", "b_dec", _ENC, linear=False, extra=("k", "threshold", "group_sizes")),
}
_SITES = {"resid_post_layer": "resid_post", "attention_out_layer": "attn_out", "mlp_out_layer": "mlp_out"}


def read(folder: Path | str) -> Coder:
    """The coder in a folder with config.json and ae.pt. FormatError for other files and classes."""
    return read_file(Path(folder) / "ae.pt")


def is_snapshot(path: Path) -> bool:
    """Whether a file is a snapshot of a run: ae_N.pt, beside the run's config.json or in its folder `checkpoints`."""
    return re.fullmatch(r"ae_\d+\.pt", path.name) is not None and _settings_of(path).is_file()


def read_file(path: Path) -> Coder:
    """The coder in ae.pt or a snapshot. FormatError for other files and classes, and where the config disagrees with the tensors."""
    said = read_settings(_settings_of(path)).section("trainer")
    name = said.required("dict_class")
    if name not in _CLASSES:
        raise FormatError(f"{said.where}: no coder here is a {name!r}; read are {', '.join(_CLASSES)}")
    content = read_torch(path)
    tensors = flat(content["ae"] if isinstance(content.get("ae"), dict) else content, path)
    return _coder(said, _CLASSES[name], tensors)


def _settings_of(path: Path) -> Path:
    beside = path.parent / "config.json"
    in_run = path.parent.name == "checkpoints" and not beside.is_file()
    return path.parent.parent / "config.json" if in_run else beside


def _coder(said: Settings, kind: _Class, tensors: Tensors) -> Coder:
    encoder, decoder = ("encoder.weight", "decoder.weight") if kind.linear else ("W_enc", "W_dec")
    tensors.exact([encoder, decoder, kind.b_dec, *(stored for _, stored in kind.biases), *kind.extra])
    d, m = tensors.length(kind.b_dec), tensors.length(kind.biases[0][1])
    said.agree(activation_dim=d, dict_size=m)
    taken = {ours: tensors.take(stored, m) for ours, stored in kind.biases}
    taken["b_dec"] = tensors.take(kind.b_dec, d)
    taken["encoder"] = tensors.take(encoder, m, d) if kind.linear else tensors.take(encoder, d, m).T
    taken["W_dec"] = tensors.take(decoder, d, m).T if kind.linear else tensors.take(decoder, m, d)
    notes = []
    if kind.architecture == "jumprelu":
        taken["threshold"] = tensors.take("threshold", m)
    elif kind.architecture == "batchtopk":
        taken["threshold"] = _threshold(tensors)
        if bool(taken["threshold"].isnan()):
            notes.append("its threshold was never estimated; fit one before use")
    return assemble(configure(said.where, **_description(said, kind, tensors, d, m, notes)), taken)


def _description(said: Settings, kind: _Class, tensors: Tensors, d: int, m: int, notes: list[str]) -> dict[str, Any]:
    site = _site(said)
    return {
        "architecture": kind.architecture,
        "d_in": d,
        "d_sae": m,
        "k": _k(said, tensors) if "k" in kind.extra else None,
        "centre_input": kind.centred,
        "prefixes": _prefixes(tensors, m),
        "site_in": site,
        "site_out": site,
        "model": said.text("lm_name"),
        "about": {"format": "dictionary_learning", "config": said.entries, "notes": notes},
    }


def _k(said: Settings, tensors: Tensors) -> int:
    k = tensors.number("k")
    said.agree(k=int(k))
    return int(k)


def _threshold(tensors: Tensors) -> Tensor:
    value = tensors.number("threshold")
    return torch.tensor(value if value >= 0 else math.nan)


def _prefixes(tensors: Tensors, m: int) -> tuple[int, ...]:
    """Ends of the groups but for the last; FormatError unless they fill the dictionary."""
    if "group_sizes" not in tensors:
        return ()
    ends = tensors.tensors["group_sizes"].cumsum(0).tolist()
    if not ends or ends[-1] != m:
        raise FormatError(f"{tensors.where}: group_sizes end at {ends[-1] if ends else 0}, and there are {m} latents")
    return tuple(int(end) for end in ends[:-1])


def _site(said: Settings) -> str:
    """The site, where the name that the run gave to its submodule is one that the project's own scripts give; else ""."""
    found = re.fullmatch(r"(\w+_layer)_(\d+)", said.text("submodule_name"))
    return f"L{found[2]}.{_SITES[found[1]]}" if found and found[1] in _SITES else ""
