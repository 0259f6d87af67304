"""Checkpoints of Addressed State Models: read in either public naming, strictly, and written so that the published code reads them too.

Nothing is filled in silently, nothing is dropped silently, and no code of a file is run; the report of a load says what was done."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.checkpoint_files import Stored, read_stored
from asa.checkpoint_fit import disagreements, key_differences, shapes_of
from asa.checkpoint_keys import (
    CheckpointError,
    Naming,
    biases,
    biases_are_zero,
    canonical,
    detect_naming,
    to_naming,
    with_zero_biases,
    without_biases,
)
from asa.config import ASMTrainConfig, ConfigError
from asa.utils.files import write_atomic

__all__ = [
    "CheckpointError",
    "LoadReport",
    "Loaded",
    "detect_naming",
    "load_checkpoint",
    "save_checkpoint",
    "to_naming",
]

# Other names for fields of the configuration, as other code writes them.
CFG_ALIASES = {
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_embd": "embed_dim",
    "n_ctx": "max_seq_len",
    "n_positions": "max_seq_len",
    "n_slots": "num_slots",
    "slotspace_size": "slotspace_dim",
}
# Fields that the published code does not know: written only where they say something.
_OURS = ("mlp_bias", "write_mode")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What loading did. Names are as stored for `stripped` and `ignored`, canonical elsewhere; empty where there was nothing to do."""

    path: Path
    format: str
    """"torch" or "safetensors"."""
    holder: str
    """The entry of the container that held the tensors; "" = the root."""
    cfg_from: str
    naming: Naming
    """The naming as stored."""
    n_tensors: int
    dtype: torch.dtype
    step: int | None = None
    stripped: tuple[str, ...] = ()
    """Prefixes of wrappers."""
    ignored: tuple[str, ...] = ()
    """Buffers that are computed, not stored."""
    zero_filled: tuple[str, ...] = ()
    """Feed-forward biases that the model has and the checkpoint has not."""
    dropped: tuple[str, ...] = ()
    """Feed-forward biases that were zero and that the configuration does without."""
    tied: tuple[str, ...] = ()
    """The one of head and embedding that was absent and is the other."""
    aliases: tuple[str, ...] = ()
    """Fields of the configuration under another name, `n_embd -> embed_dim`."""
    unknown_fields: tuple[str, ...] = ()
    """Fields of the configuration that are kept in `cfg.unknown`."""
    defaulted_fields: tuple[str, ...] = ()
    """Fields that the configuration does not name."""
    other_entries: tuple[str, ...] = ()
    """Entries of the container that were not needed, such as an optimizer's state."""

    def render(self) -> str:
        """Readable text, one line for each thing worth saying."""
        at = f", step {self.step}" if self.step is not None else ""
        lines = [
            f"{self.path}: {self.n_tensors} tensors ({self.naming} naming, {str(self.dtype).removeprefix('torch.')}{at})"
        ]
        lines += [f"configuration from {self.cfg_from}"]
        for names, text in (
            (self.stripped, "prefixes stripped"),
            (self.ignored, "computed buffers in the file, not used"),
            (self.zero_filled, "feed-forward biases absent in the checkpoint, filled with zeros"),
            (self.dropped, "feed-forward biases that were zero, left out"),
            (self.tied, "absent and tied, taken from its twin"),
            (self.aliases, "configuration fields under another name"),
            (self.unknown_fields, "unknown configuration fields, kept in cfg.unknown"),
            (self.defaulted_fields, "configuration fields not named, at their defaults"),
            (self.other_entries, "other entries of the file, not used"),
        ):
            if names:
                lines.append(f"{text} ({len(names)}): {', '.join(names[:8])}{' …' if len(names) > 8 else ''}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, its configuration, and the report of the load."""

    model: ASMLanguageModel
    cfg: ASMTrainConfig
    report: LoadReport


def load_checkpoint(
    path: str | Path,
    *,
    variant: str = "baseline",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    cfg: ASMTrainConfig | Mapping[str, Any] | None = None,
) -> Loaded:
    """The model of a checkpoint file (or of a folder with model.safetensors and config.json), every weight of it from there.

    `dtype` None keeps the stored one (the widest, where several are stored). `cfg` takes the place of the checkpoint's configuration.
    Raises CheckpointError for a file that cannot be read safely, for weights that disagree with the configuration or with each other, and
    for keys that are missing, unexpected or of another shape; ValueError for an unknown variant."""
    stored = read_stored(path)
    try:
        return _load(stored, variant, torch.device(device), dtype, cfg)
    except (CheckpointError, ConfigError) as error:
        text = str(error)
        raise CheckpointError(text if str(stored.path) in text else f"{stored.path}: {text}") from error


def save_checkpoint(
    path: str | Path,
    model: nn.Module | Mapping[str, torch.Tensor],
    cfg: ASMTrainConfig | None = None,
    *,
    naming: Naming = "asm",
    step: int | None = None,
    opt: Mapping[str, Any] | None = None,
    best_val: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint in one step: the file is the old one or the new one, never a part. Returns its path.

    `.safetensors`: tensors (a tied head once) with the configuration in the metadata; any other suffix: the published container of
    torch.save with `cfg`, `model`, and `opt`, `step`, `best_val`, entries of `extra` where given. `cfg` None: the model's own.
    Raises CheckpointError, with nothing written, for weights that do not fit the configuration or a place that cannot be written."""
    target = Path(path).expanduser()
    if target.is_dir() or not target.parent.is_dir():
        what = "it is a folder" if target.is_dir() else f"there is no folder {target.parent}"
        raise CheckpointError(f"cannot write a checkpoint to {target}: {what}. Name a file in an existing folder")
    state = canonical(model.state_dict() if isinstance(model, nn.Module) else model).state
    cfg = getattr(model, "cfg", None) if cfg is None else cfg
    if not isinstance(cfg, ASMTrainConfig):
        raise CheckpointError(
            f"cannot write {target} without a configuration: pass cfg, or a model that build_model_from_cfg made"
        )
    if problems := disagreements(cfg, shapes_of(state), _field_names(cfg)):
        raise CheckpointError(f"{target} was not written: " + _listed(problems))
    rest = {"opt": opt, "step": step, "best_val": best_val}
    entries = {name: value for name, value in rest.items() if value is not None} | dict(extra or {})
    if clash := sorted({"cfg", "model"} & entries.keys()):
        raise CheckpointError(
            f"{target} was not written: extra has the entry {clash[0]!r}, which is the checkpoint's own"
        )
    tensors = {name: tensor.detach().to("cpu") for name, tensor in to_naming(state, naming).items()}
    write = _safetensors_bytes if target.suffix == ".safetensors" else _torch_bytes
    write_atomic(target, write(target, tensors, _written_fields(cfg, naming), entries))
    return target


def _load(
    stored: Stored,
    variant: str,
    device: torch.device,
    dtype: torch.dtype | None,
    given: ASMTrainConfig | Mapping[str, Any] | None,
) -> Loaded:
    found = canonical(stored.state)
    cfg, aliases, named = _configuration(stored, given)
    state, tied = _with_twin(found.state, cfg)
    if "mlp_bias" not in named:
        cfg.mlp_bias = bool(biases(state))
    zero_filled, dropped = [], []
    if cfg.mlp_bias and not biases(state):
        state = with_zero_biases(state)
        zero_filled = biases(state)
    elif not cfg.mlp_bias and biases_are_zero(state):
        dropped = biases(state)
        state = without_biases(state)
    if problems := disagreements(cfg, shapes_of(state), named):
        raise CheckpointError(_listed(problems))
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are all replaced
        model = build_model_from_cfg(cfg, variant)
    if differences := key_differences(shapes_of(model.state_dict()), shapes_of(state)):
        raise CheckpointError(
            f"the {found.naming} checkpoint does not fit the model of its configuration\n{differences}"
        )
    width = dtype or _widest(state)
    _take(model, {name: tensor.to(width) if tensor.is_floating_point() else tensor for name, tensor in state.items()})
    report = LoadReport(
        stored.path, stored.format, stored.holder, stored.cfg_from if given is None else "the caller", found.naming, len(found.state), width,
        stored.step, found.prefixes, found.buffers, tuple(zero_filled), tuple(dropped), tied, aliases, tuple(cfg.unknown),
        tuple(name for name in _field_names(cfg) if name not in named), tuple(name for name in stored.fields if name != "step"),
    )  # fmt: skip
    return Loaded(model.to(device).eval(), cfg, report)


def _configuration(
    stored: Stored, given: ASMTrainConfig | Mapping[str, Any] | None
) -> tuple[ASMTrainConfig, tuple[str, ...], set[str]]:
    """The configuration, the aliases used, and the fields that it names."""
    fields = given.to_dict() if isinstance(given, ASMTrainConfig) else given if given is not None else stored.cfg
    if fields is None:
        raise CheckpointError(
            f"no configuration: wanted the entry 'cfg' in the checkpoint, or {stored.path.stem}.json or config.json beside it. "
            f"Write one with at least embed_dim, num_layers, num_heads, num_slots, or pass cfg"
        )
    plain: dict[str, Any] = {name: value for name, value in fields.items() if name not in CFG_ALIASES}
    used = []
    for alias, name in CFG_ALIASES.items():
        if alias not in fields:
            continue
        if name in plain and plain[name] != fields[alias]:
            raise CheckpointError(
                f"the configuration contradicts itself: {name} is {plain[name]!r} and {alias} is {fields[alias]!r}"
            )
        plain[name] = fields[alias]
        used.append(f"{alias} -> {name}")
    cfg = ASMTrainConfig.from_dict(plain)
    return cfg, tuple(used), plain.keys() & set(_field_names(cfg))


def _with_twin(state: dict[str, torch.Tensor], cfg: ASMTrainConfig) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Head and embedding of a tied model, of which one may be absent. Raises CheckpointError where both are there and differ."""
    head, embedding = state.get("lm_head.weight"), state.get("tok.weight")
    if not cfg.tie_weights or (head is None and embedding is None):
        return state, ()
    if head is None or embedding is None:
        absent, twin = ("lm_head.weight", embedding) if head is None else ("tok.weight", head)
        assert twin is not None
        return {**state, absent: twin}, (absent,)
    if head.shape == embedding.shape and not torch.equal(head.nan_to_num(nan=0.0), embedding.nan_to_num(nan=0.0)):
        raise CheckpointError(
            "tie_weights: the configuration ties head and embedding, but the checkpoint stores lm_head.weight and tok.weight (token_emb.weight "
            "in the other naming) with different values: one would be lost. Set tie_weights to False in the configuration, or save the model again"
        )
    return state, ()


def _take(model: ASMLanguageModel, state: dict[str, torch.Tensor]) -> None:
    """Give the model these tensors, in their dtypes. Buffers that are computed keep their precision."""
    own = {name: tensor.clone() for name, tensor in state.items()}  # stored tensors may lie in a mapped file
    model.load_state_dict(own, strict=True, assign=True)
    if model.tie_weights:
        model.lm_head.weight = model.tok.weight


def _widest(state: Mapping[str, torch.Tensor]) -> torch.dtype:
    """The dtype that holds every stored number exactly."""
    dtypes = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
    widest = dtypes[0] if dtypes else torch.get_default_dtype()
    for dtype in dtypes:
        widest = torch.promote_types(widest, dtype)
    return widest


def _written_fields(cfg: ASMTrainConfig, naming: Naming) -> dict[str, Any]:
    """The configuration as published code reads it. Whether there are biases, the keys say in the second naming."""
    fields, defaults = cfg.to_dict(), ASMTrainConfig().to_dict()
    for name in _OURS:
        if fields[name] == defaults[name] or (name == "mlp_bias" and naming == "alt"):
            del fields[name]
    return fields


def _torch_bytes(
    target: Path, tensors: dict[str, torch.Tensor], cfg: dict[str, Any], entries: Mapping[str, Any]
) -> bytes:
    buffer = io.BytesIO()
    torch.save({"cfg": cfg, "model": tensors, **entries}, buffer)
    return buffer.getvalue()


def _safetensors_bytes(
    target: Path, tensors: dict[str, torch.Tensor], cfg: dict[str, Any], entries: Mapping[str, Any]
) -> bytes:
    try:
        metadata = {name: json.dumps(value) for name, value in entries.items()}
    except TypeError as error:
        raise CheckpointError(
            f"{target} was not written: a safetensors file holds tensors of the model and plain values beside them ({error}). "
            f"Leave optimizer states out, or name a .pt file"
        ) from error
    embedding = tensors.get("tok.weight", tensors.get("token_emb.weight"))
    if cfg["tie_weights"] and embedding is not None:
        tensors = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    own = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    return save_safetensors(own, metadata={"format": "pt", "cfg": json.dumps(cfg), **metadata})


def _field_names(cfg: ASMTrainConfig) -> list[str]:
    return [name for name in ASMTrainConfig().to_dict() if hasattr(cfg, name)]


def _listed(problems: list[str]) -> str:
    return (
        f"configuration and weights disagree in {len(problems)} field{'s' if len(problems) > 1 else ''}\n"
        + "\n".join(f"  {line}" for line in problems)
        + "\nCorrect the configuration, or take the checkpoint that belongs to it"
    )
