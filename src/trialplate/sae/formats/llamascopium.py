"""Files of Llamascopium (Language-Model-SAEs, Llama Scope): config.json and sae_weights.safetensors or .pt, of either generation of names.

    tensors   W_E [d, m], b_E [m], W_D [m, d], b_D [d], activation_function.log_jumprelu_threshold [m]; in older files
              encoder.weight [m, d], encoder.bias, decoder.weight [d, m], decoder.bias, log_jumprelu_threshold; dataset_average_activation_norm.<hook> []
    function  x is first scaled to a mean norm of sqrt(d) (dataset-wise); pre = x W_E + b_E; act_fn is applied to pre ||d_j|| where
              sparsity_include_decoder_norm, and what it lets through is pre

The scale of the data set is folded. With sparsity_include_decoder_norm, jumprelu's thresholds become exp(log threshold) / ||d_j||; topk and batchtopk
have their norms folded, so that their latents are counted in units of their decoder row, f_j ||d_j||: what they write is the same. batchtopk has no
threshold in these files."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import FormatError
from trialplate.sae.formats import folding
from trialplate.sae.formats.assembly import assemble, configure
from trialplate.sae.formats.settings import Settings, read_settings
from trialplate.sae.formats.sites import site_of
from trialplate.sae.formats.tensors import Tensors, flat, read_safetensors, read_torch

_NORM = "dataset_average_activation_norm."
_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
_PLAIN = ("W_E", "b_E", "W_D", "b_D")
_THRESHOLDS = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")
_ACTIVATIONS = ("relu", "jumprelu", "topk", "batchtopk")
_UNITS = "latents are in units of their decoder row: what the project calls f_j is here f_j times its norm"


def read(folder: Path | str) -> Coder:
    """The coder in a folder. FormatError for other files, and for what no coder here computes: gated linear units, crosscoders and other
    dictionaries, activations scaled token by token or batch by batch."""
    folder = Path(folder)
    said, tensors = read_settings(folder / "config.json"), _weights(folder)
    activation = _activation(said)
    norms = {name: tensors.number(name) for name in tensors.tensors if name.startswith(_NORM)}
    coder = _as_stored(
        said, Tensors({n: t for n, t in tensors.tensors.items() if n not in norms}, tensors.where), activation
    )
    if _is_scaled(said):
        factors = [_factor(said, norms, side) for side in ("hook_point_in", "hook_point_out")]
        coder = folding.scaled(coder, *factors)
    return coder


def _weights(folder: Path) -> Tensors:
    if (folder / "sae_weights.safetensors").is_file():
        return read_safetensors(folder / "sae_weights.safetensors")
    path = folder / "sae_weights.pt"
    content = read_torch(path)
    return flat(content["sae"] if isinstance(content.get("sae"), dict) else content, path)


def _activation(said: Settings) -> str:
    kind = said.entries.get("sae_type", "sae")  # early files have none: there was only this
    if kind != "sae":
        raise FormatError(f"{said.where}: sae_type is {kind!r}; read is sae")
    if said.flag("use_glu_encoder", absent=False):
        raise FormatError(f"{said.where}: use_glu_encoder, pre-activations times a sigmoid; no coder here has those")
    activation = str(said.required("act_fn")).lower()
    if activation not in _ACTIVATIONS:
        raise FormatError(f"{said.where}: act_fn is {activation!r}; read are {', '.join(_ACTIVATIONS)}")
    return activation


def _is_scaled(said: Settings) -> bool:
    norm = said.required("norm_activation")
    if norm not in ("dataset-wise", "inference"):
        raise FormatError(
            f"{said.where}: norm_activation is {norm!r}, a function of the token or the batch, not of weights"
        )
    return bool(norm == "dataset-wise")


def _factor(said: Settings, norms: dict[str, float], side: str) -> float:
    """sqrt(d) over the mean norm at a hook, from the weights or the configuration."""
    hook, short = said.text(side), side.removeprefix("hook_point_")
    norm = norms.get(_NORM + hook, said.section(_NORM[:-1]).entries.get(short))
    if not isinstance(norm, int | float) or not 0 < norm < math.inf:
        raise FormatError(
            f"{said.where}: norm_activation is 'dataset-wise', and the mean norm at {hook!r} is {norm!r} in {_NORM}{hook}"
        )
    return math.sqrt(said.integer("d_model")) / norm


def _as_stored(said: Settings, tensors: Tensors, activation: str) -> Coder:
    linear = "encoder.weight" in tensors
    W_E, b_E, W_D, b_D = _LINEAR if linear else _PLAIN
    has_bias = said.flag("use_decoder_bias")
    threshold = next((name for name in _THRESHOLDS if name in tensors), _THRESHOLDS[1])
    tensors.exact([W_E, b_E, W_D, *([b_D] if has_bias else []), *([threshold] if activation == "jumprelu" else [])])
    d, m = said.integer("d_model"), tensors.length(b_E)
    said.agree(d_sae=m)
    if round(said.real("expansion_factor") * d) != m:
        raise FormatError(f"{said.where} says {said.real('expansion_factor'):g} times {d} latents, and {b_E} has {m}")
    taken = {
        "encoder": tensors.take(W_E, m, d) if linear else tensors.take(W_E, d, m).T,
        "b_enc": tensors.take(b_E, m),
        "W_dec": tensors.take(W_D, d, m).T if linear else tensors.take(W_D, m, d),
        "b_dec": tensors.take(b_D, d) if has_bias else torch.zeros(d),
    }
    norms = taken["W_dec"].float().norm(dim=1)
    by_norm = activation != "relu" and said.flag("sparsity_include_decoder_norm")
    if activation == "jumprelu":
        taken["threshold"] = _thresholds(tensors.take(threshold, m), norms if by_norm else torch.ones(m))
    elif activation == "batchtopk":
        taken["threshold"] = torch.tensor(math.nan)
    folds = by_norm and activation != "jumprelu"
    coder = assemble(_config(said, activation, d, m, [_UNITS] if folds else []), taken)
    return folding.rescaled(coder, norms) if folds else coder


def _thresholds(log: Tensor, norms: Tensor) -> Tensor:
    """The threshold of pre where pre times the norm is compared; a latent whose row is zero never passes one that is positive."""
    return log.float().exp() / norms


def _config(said: Settings, activation: str, d: int, m: int, notes: list[str]) -> CoderConfig:
    site_in, site_out = site_of(said.text("hook_point_in")), site_of(said.text("hook_point_out"))
    return configure(
        said.where,
        architecture=activation,
        d_in=d,
        d_sae=m,
        k=said.integer("top_k") if activation in ("topk", "batchtopk") else None,
        centre_input=False,
        site_in=site_in,
        site_out=site_out or site_in,
        about={"format": "llamascopium", "config": said.entries, "notes": notes},
    )
