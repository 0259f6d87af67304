"""Files of SAELens, read and written: cfg.json and sae_weights.safetensors.

    tensors   W_enc [d_in, m], W_dec [m, d_out], b_enc [m], b_dec [d_out]; threshold [m] (jumprelu); b_gate, b_mag, r_mag [m] (gated); W_skip [d_out, d_in]
    function  pre = (x - b_dec where apply_b_dec_to_input) W_enc + b_enc; jumprelu strictly above its threshold; topk ranks pre ||d_j|| where
              rescale_acts_by_decoder_norm, which is folded into the weights, so that its latents are what SAELens calls them

Read are files of all versions, and checkpoints of a training run: a scale or a whitening of the activations lies beside those and is folded. A coder of
a model with centred weights (center_writing_weights) reads raw activations here: taking off their mean over channels is folded into its encoder; it
still writes centred ones.

Written is what SAELens 6 loads: batchtopk as jumprelu with its threshold repeated, a transcoder that subtracts b_dec with that folded into b_enc. What
SAELens has no coder for is written in the same two files under an architecture `trialplate_…` that it refuses and only this module reads: topk with
signs, topk and gated transcoders, routed. A coder of attn.hook_z reads heads side by side, [n, heads d_head]; its file says reshape_activations hook_z,
and SAELens then takes [n, heads, d_head]."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import FormatError
from trialplate.sae.formats import folding
from trialplate.sae.formats.assembly import assemble, configure
from trialplate.sae.formats.plain import described
from trialplate.sae.formats.saelens_settings import (
    CONFIG,
    KINDS,
    OWN,
    WEIGHTS,
    Declared,
    Kind,
    architecture_of,
    declared,
)
from trialplate.sae.formats.saelens_writing import write
from trialplate.sae.formats.settings import read_settings
from trialplate.sae.formats.sites import is_centred, site_of
from trialplate.sae.formats.tensors import Tensors, read_safetensors

__all__ = ["read", "write"]

_SCALER, _WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
_GATES = ("b_gate", "b_mag", "r_mag")


def read(folder: Path | str) -> Coder:
    """The coder in a folder, in float32. FormatError for files that are no such coder, or one that cannot be expressed here, with what it is."""
    folder = Path(folder)
    said, tensors = declared(folder / CONFIG), read_safetensors(folder / WEIGHTS)
    if said.architecture.startswith(OWN):
        return _own(said, tensors)
    return _restored(_folded(_as_stored(said, KINDS[said.architecture], tensors), said, folder), said)


def _folded(coder: Coder, said: Declared, folder: Path) -> Coder:
    """The coder that reads raw activations of the model as it is: scale, ranking by norms, whitening and centred weights go into the parameters."""
    notes = []
    if (factor := _factor(said, folder)) is not None:
        coder = folding.scaled(coder, factor)
        notes.append(f"activations were scaled by {factor:.6g} in training; that is folded")
    if said.ranks_by_norm:
        trained = coder.threshold / (factor or 1) if KINDS[said.architecture].training else None
        coder = folding.rescaled(coder, coder.W_dec.norm(dim=1))
        if trained is not None:
            coder.threshold.copy_(trained)  # it was one of rescaled latents already
    if said.normalize == "covariance_whitening":
        coder = _whitened(coder, folder)
        notes.append("activations were whitened in training; that is folded")
    centred = said.metadata.section("model_from_pretrained_kwargs").entries.get("center_writing_weights")
    if centred and is_centred(said.hook):
        coder = folding.input_centred(coder)
        notes.append("made for a model with centred weights: it writes activations minus their mean over channels")
    coder.config = coder.config.with_(about={**coder.config.about, "notes": notes})
    return coder


def _as_stored(said: Declared, kind: Kind, tensors: Tensors) -> Coder:
    """The coder as its tensors have it, before anything is folded."""
    biases = _GATES if kind.ours == "gated" else ("b_enc",)
    threshold = "topk_threshold" if kind.training else "log_threshold" if "log_threshold" in tensors else "threshold"
    needed = ["W_enc", "W_dec", "b_dec", *biases, *([threshold] if kind.ours == "jumprelu" else [])]
    tensors.exact([*needed, *(["W_skip"] if kind.skip else [])], ["scaling_factor"])
    d_in, d_sae, d_out = said.settings.integer("d_in"), tensors.length(biases[0]), tensors.length("b_dec")
    if (wide := said.settings.integer("d_out") if kind.transcoder else d_in) != d_out:
        raise FormatError(f"{said.where} says an output of {wide} channels, and b_dec has {d_out}")
    said.settings.agree(d_sae=d_sae)
    taken = {name: tensors.take(name, d_sae) for name in biases}
    taken["encoder"] = tensors.take("W_enc", d_in, d_sae).T
    taken["W_dec"] = _finetuned(tensors.take("W_dec", d_sae, d_out), said, tensors)
    taken["b_dec"] = tensors.take("b_dec", d_out)
    if kind.skip:
        taken["W_skip"] = tensors.take("W_skip", d_out, d_in)
    if kind.training:
        taken["threshold"] = torch.full((d_sae,), tensors.number(threshold))
    elif kind.ours == "jumprelu":
        taken["threshold"] = tensors.take(threshold, d_sae)
    if threshold == "log_threshold":
        taken["threshold"] = taken["threshold"].exp()
    return assemble(_config(said, kind, d_in, d_sae, d_out), taken)


def _config(said: Declared, kind: Kind, d_in: int, d_sae: int, d_out: int) -> CoderConfig:
    site = site_of(said.hook)
    widths = said.settings.entries.get("matryoshka_widths") or ()
    return configure(
        said.where,
        architecture=kind.ours,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_out,
        k=said.k,
        centre_input=said.centre_input,
        skip=kind.skip,
        prefixes=tuple(width for width in widths if width < d_sae),
        site_in=site,
        site_out=site_of(said.metadata.text("hook_name_out")) if kind.transcoder else site,
        model=said.metadata.text("model_name"),
        about={"format": "saelens", "config": said.settings.entries},
    )


def _finetuned(W_dec: Tensor, said: Declared, tensors: Tensors) -> Tensor:
    """The decoder with the factor of every latent that old files may have; ones come from a time when it was always saved."""
    if "scaling_factor" not in tensors:
        return W_dec
    factor = tensors.take("scaling_factor", len(W_dec))
    if bool((factor == 1).all()):
        return W_dec
    if not said.settings.flag("finetuning_scaling_factor", absent=False):
        raise FormatError(
            f"{said.where}: the weights have a scaling_factor, and finetuning_scaling_factor does not say that it counts"
        )
    return W_dec * factor.unsqueeze(1)


def _factor(said: Declared, folder: Path) -> float | None:
    """What activations were multiplied with in training, which lies beside the weights; None where they were not. FormatError where it is missing."""
    beside = read_settings(folder / _SCALER).entries if (folder / _SCALER).is_file() else {}
    factor = beside.get("scaling_factor")
    if (said.normalize == "expected_average_only_in") != (factor is not None):
        raise FormatError(
            f"{said.where}: normalize_activations is {said.normalize!r}, and the scaling_factor in {_SCALER} beside it is {factor!r}; "
            "it is sqrt(d_in) over the mean norm of the activations in training. Write it there, or save the coder for inference"
        )
    return None if factor is None else float(factor)


def _whitened(coder: Coder, folder: Path) -> Coder:
    stored, d = read_safetensors(folder / _WHITENING), coder.config.d_in
    stored.exact(("mean", "matrix", "inverse_matrix"))
    mean, matrix, inverse = stored.take("mean", d), stored.take("matrix", d, d), stored.take("inverse_matrix", d, d)
    return folding.whitened(coder, mean, matrix, inverse)


def _own(said: Declared, tensors: Tensors) -> Coder:
    """A coder that SAELens has none of: its description lies in the metadata, its tensors have their names here."""
    config = described(said.metadata.required("trialplate"), said.where)
    if said.architecture != architecture_of(config):
        raise FormatError(
            f"{said.where}: the architecture {said.architecture!r} is not the described {architecture_of(config)!r}"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in Coder(config).state_dict().items()}
    shapes["W_enc"] = shapes.pop("encoder")[::-1]
    tensors.exact(shapes)
    taken = {name: tensors.take(name, *shape) for name, shape in shapes.items()}
    return assemble(config, {"encoder": taken.pop("W_enc").T, **taken})


def _restored(coder: Coder, said: Declared) -> Coder:
    """The description that `write` left, where it did: prefixes, sites, batchtopk's k. What decides the function must be what the file says.

    SAELens keeps metadata when it saves a coder that it changed: thresholds that are no longer equal make it a jumprelu coder."""
    if "trialplate" not in said.metadata.entries:
        return coder
    config, found = described(said.metadata.entries["trialplate"], said.where), coder.config
    was_batchtopk = config.architecture == "batchtopk" and found.architecture == "jumprelu"
    same = config.with_(architecture="jumprelu", k=None) if was_batchtopk else config
    for name in ("architecture", "d_in", "d_sae", "d_out", "k", "centre_input", "skip"):
        if getattr(same, name) != getattr(found, name):
            raise FormatError(
                f"{said.where}: {name} is {getattr(found, name)!r}, and its own description says {getattr(same, name)!r}; one of them was edited"
            )
    if was_batchtopk and bool((coder.threshold == coder.threshold[0]).all()):
        state = coder.state_dict()
        return assemble(config, {**state, "threshold": state["threshold"][0]})
    coder.config = same
    return coder
