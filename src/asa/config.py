"""The settings that a checkpoint carries: data, training, model and attention fields of an ASM, with the published names and defaults."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


class ConfigError(ValueError):
    """A field of a configuration has a value that cannot be meant."""


@dataclass
class ASMTrainConfig:
    """All fields of a published ASM configuration, and two of our own: `write_mode` and `mlp_bias`. Fields that are unknown here are kept in
    `unknown` when a mapping is read: nothing that a checkpoint says is lost."""

    # data
    dataset_name: str = "wikitext"
    dataset_config: str = "wikitext-103-raw-v1"
    tokenizer_name: str = "gpt2"
    max_seq_len: int = 256
    stride_frac_val: float = 0.5
    seed: int = 1337
    train_samples_target: int = 100_000_000
    val_samples_target: int = 25_000
    # training
    batch_size: int = 64
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float = 1.0
    warmup_steps: int = 1000
    total_steps: int = 75_000
    eval_interval: int = 1000
    log_interval: int = 100
    micro_batch_size: int = 0
    grad_accum_steps: int = 1
    # model
    vocab_size: int = 50257
    embed_dim: int = 384
    num_layers: int = 23
    num_heads: int = 8
    num_slots: int = 32
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    tie_weights: bool = True
    mlp_bias: bool = False  # True for checkpoints of the second public naming, whose feed-forward layers have biases
    # attention
    read_temperature: float = 1.0
    write_temperature: float = 1.0
    slot_dropout: float = 0.05
    state_fp32: bool = True
    normalize_k: bool = False
    use_abs_pos: bool = False
    use_rope_keys: bool = True
    rope_base: float = 1e4
    use_alibi_write: bool = True
    alibi_strength_init: float = 0.1
    learn_alibi_strength: bool = True
    min_strength: float = 0.0
    use_content_read: bool = True
    content_read_init: float = -4.0
    content_read_max_gamma: float | None = 3.0
    use_slotspace_refine: bool = True
    slotspace_dim: int = 64
    slotspace_gate_init: float = -4.0
    slotspace_dropout: float = 0.05
    slotspace_signed_weights: bool = True
    use_rope_slotspace: bool = True
    rope_base_slotspace: float = 1e5
    write_chunk_size: int = 128
    slotspace_chunk_size: int = 128
    write_mode: str = "reference"  # or "exact": see asa.scan
    enable_compiled: bool = False
    # analytics and files
    eval_max_batches: int = 150
    analytics_last_k: int = 32
    output_dir: str = ""
    resume_path: str = ""
    tag: str = ""
    cache_dir: str = ""
    val_windows_cache: str = ""

    unknown: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """A configuration from the fields of a checkpoint: absent fields take their defaults, unknown ones are kept in `.unknown`.

        Raises ConfigError for a value of another type than the field's."""
        known = {f.name for f in dataclasses.fields(cls)} - {"unknown"}
        hints = typing.get_type_hints(cls)
        values = {name: _typed(name, value, hints[name]) for name, value in mapping.items() if name in known}
        carried = mapping.get("unknown") if isinstance(mapping.get("unknown"), dict) else {}
        rest = {name: value for name, value in mapping.items() if name not in known and name != "unknown"}
        return cls(**values, unknown={**typing.cast("dict[str, Any]", carried), **rest})

    def to_dict(self) -> dict[str, Any]:
        """Plain data: every field, then what was unknown. `from_dict` reads it back to an equal configuration."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "unknown"}
        values["betas"] = list(self.betas)
        return {**values, **self.unknown}

    @classmethod
    def nearest_field(cls, name: str) -> str | None:
        """The field whose name looks most like `name`, or None."""
        near = difflib.get_close_matches(name, [f.name for f in dataclasses.fields(cls) if f.name != "unknown"], n=1)
        return near[0] if near else None


def _typed(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type of its field. An int is a float too; a bool is no int; a list of two numbers is `betas`."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(k for k in kinds if k is not type(None))
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(v) for v in value):
            return tuple(float(v) for v in value)
    elif kind is float and _is_number(value):
        return float(value)
    elif kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif type(value) is kind:
        return value
    elif kind is str and value is None:
        return ""
    wanted = "two numbers" if typing.get_origin(kind) is tuple else kind.__name__
    raise ConfigError(f"configuration field {name}: wanted {wanted}, got {value!r} ({type(value).__name__})")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
