"""What the cfg.json of SAELens says, in one form for all its versions.

Since 6.0 a file has its function at the top and everything about the model under `metadata`; before, all lies flat and some names differ. A file without
a version is an old one. Keys beyond those that are asked for (a training run writes dozens) are kept and not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialplate.sae.config import Architecture, CoderConfig
from trialplate.sae.errors import FormatError
from trialplate.sae.formats.settings import Settings, read_settings

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
VERSION = "6.54.12"
"""The release of SAELens whose files are written."""
OWN = "trialplate_"
"""What an architecture's name begins with where SAELens has no such coder: only this project reads it."""
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_NORMS = {
    "none",
    "expected_average_only_in",
    "covariance_whitening",
}
_TOKEN_NORMS = {
    "constant_norm_rescale": "every activation is scaled to norm sqrt(d_in)",
    "layer_norm": "every activation is centred and divided by its own standard deviation",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """An architecture of SAELens: the one it is here, and what else it has."""

    ours: Architecture
    transcoder: bool = False
    skip: bool = False
    training: bool = False


KINDS = {
    "standard": Kind("relu"),
    "topk": Kind("topk"),
    "jumprelu": Kind("jumprelu"),
    "gated": Kind("gated"),
    "transcoder": Kind("relu", transcoder=True),
    "skip_transcoder": Kind("relu", transcoder=True, skip=True),
    "jumprelu_transcoder": Kind("jumprelu", transcoder=True),
    "jumprelu_skip_transcoder": Kind("jumprelu", transcoder=True, skip=True),
    "batchtopk": Kind("jumprelu", training=True),
    "matryoshka_batchtopk": Kind("jumprelu", training=True),
}


def architecture_of(config: CoderConfig) -> str:
    """What SAELens calls a coder of this description, or what is written where it has none."""
    base = {"relu": "standard", "batchtopk": "jumprelu"}.get(config.architecture, config.architecture)
    base = "signed_topk" if config.signed else base
    if config.is_transcoder:
        tail = "skip_transcoder" if config.skip else "transcoder"
        base = tail if base == "standard" else f"{base}_{tail}"
    return base if base in KINDS else OWN + base


@dataclass(frozen=True)
class Declared:
    """A cfg.json, understood. `metadata` is the flat file itself where it is an old one."""

    settings: Settings
    metadata: Settings
    architecture: str
    centre_input: bool
    normalize: str
    k: int | None
    ranks_by_norm: bool

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self.settings.where

    @property
    def hook(self) -> str:
        """The hook that is read, "" where the file does not say."""
        return self.metadata.text("hook_name")


def declared(path: Path) -> Declared:
    """Read a cfg.json. FormatError for an architecture, an activation or a norm that a coder here cannot have, with what it is."""
    raw = read_settings(path)
    metadata = raw.section("metadata")
    is_old = _major(metadata.entries.get("sae_lens_version") or raw.entries.get("sae_lens_version"), raw.where) < 6
    settings = _modern(raw) if is_old else raw
    architecture = settings.required("architecture")
    if architecture not in KINDS and not str(architecture).startswith(OWN):
        raise FormatError(
            f"{raw.where}: no coder here has the architecture {architecture!r}; read are {', '.join(KINDS)} and {OWN}…"
        )
    kind = KINDS.get(architecture)
    said = Declared(
        settings=settings,
        metadata=settings if is_old else metadata,
        architecture=architecture,
        centre_input=settings.flag("apply_b_dec_to_input"),
        normalize=_norm(settings),
        k=settings.integer("k") if kind is not None and kind.ours == "topk" else None,
        ranks_by_norm=settings.flag("rescale_acts_by_decoder_norm", absent=False),
    )
    _refuse_what_is_read_elsewhere(said)
    return said


def _major(version: Any, where: str) -> int:
    if version is None:
        return 0
    head = str(version).partition(".")[0]
    if not head.isdecimal():
        raise FormatError(f"{where}: {version!r} is no version of SAELens")
    return int(head)


def _modern(raw: Settings) -> Settings:
    """An old flat file in today's words. What it may leave out had one meaning then."""
    new = {_RENAMED.get(name, name): value for name, value in raw.entries.items()}
    activation = new.setdefault("activation_fn", "relu")
    arguments = new.get("activation_fn_kwargs") or {}
    new.setdefault("architecture", "standard")
    if activation == "topk" and isinstance(arguments, Mapping) and arguments.get("k") is not None:
        new |= {"architecture": "topk", "k": arguments["k"]}
    elif activation != "relu":
        raise FormatError(f"{raw.where}: activation_fn is {activation!r}; read are relu, and topk with its k")
    if isinstance(arguments, Mapping) and arguments.get("signed"):
        raise FormatError(f"{raw.where}: a signed topk ranks by magnitude, which no coder here does")
    new.setdefault("apply_b_dec_to_input", True)
    norm = new.get("normalize_activations")
    new["normalize_activations"] = {True: "expected_average_only_in", False: "none", None: "none"}.get(norm, norm)
    return Settings(new, raw.where)


def _norm(settings: Settings) -> str:
    norm = settings.required("normalize_activations")
    if norm in _TOKEN_NORMS:
        raise FormatError(
            f"{settings.where}: normalize_activations is {norm!r}: {_TOKEN_NORMS[norm]}, a function of the token that no weights of a coder express"
        )
    if norm not in _NORMS:
        raise FormatError(f"{settings.where}: normalize_activations is {norm!r}; read are {', '.join(sorted(_NORMS))}")
    return str(norm)


def _refuse_what_is_read_elsewhere(said: Declared) -> None:
    if (head := said.metadata.entries.get("hook_head_index")) is not None:
        raise FormatError(f"{said.where}: reads head {head} of {said.hook} alone, and no site here is one head")
    if said.architecture.endswith("transcoder") and said.architecture in KINDS and said.centre_input:
        raise FormatError(
            f"{said.where}: apply_b_dec_to_input of a transcoder, whose b_dec is not of the space that it reads; SAELens refuses it too"
        )
    model = said.metadata.section("model_from_pretrained_kwargs").entries
    if model.get("fold_value_biases") and said.hook.endswith("hook_z"):
        raise FormatError(
            f"{said.where}: was trained where fold_value_biases had taken the value biases out of {said.hook}; the model's own activations have them"
        )
