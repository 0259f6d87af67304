"""The configuration of an ASM as the transformers library wants it: the fields of the model, flat, under the names of `ASMTrainConfig`."""

from __future__ import annotations

from typing import Any

from transformers.configuration_utils import PretrainedConfig

from asa.config import ASMTrainConfig

MODEL_FIELDS = (
    "vocab_size", "embed_dim", "num_layers", "num_heads", "num_slots", "max_seq_len", "mlp_ratio", "dropout", "tie_weights", "mlp_bias",
    "use_abs_pos", "read_temperature", "write_temperature", "slot_dropout", "state_fp32", "normalize_k", "use_rope_keys", "rope_base",
    "use_alibi_write", "alibi_strength_init", "learn_alibi_strength", "min_strength", "use_content_read", "content_read_init",
    "content_read_max_gamma", "use_slotspace_refine", "slotspace_dim", "slotspace_gate_init", "slotspace_dropout",
    "slotspace_signed_weights", "use_rope_slotspace", "rope_base_slotspace", "write_chunk_size", "slotspace_chunk_size", "write_mode",
)  # fmt: skip
"""Fields of `ASMTrainConfig` that decide what a model is; the others are about data and training."""


class ASMConfig(PretrainedConfig):
    """Every field of MODEL_FIELDS with the default of `ASMTrainConfig`, `variant` (the attention class: baseline, online, intervene), and the
    usual names (`hidden_size` …) as aliases. Raises ConfigError for a value of another type, ValueError where a field is given under two
    names with different values."""

    model_type = "asm"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - the library's own form
    attribute_map = {  # noqa: RUF012
        "hidden_size": "embed_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "max_position_embeddings": "max_seq_len",
        "tie_word_embeddings": "tie_weights",
    }

    def __init__(
        self,
        *,
        variant: str = "baseline",
        use_cache: bool = True,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
        **fields: Any,
    ) -> None:
        for alias, name in self.attribute_map.items():
            if alias in fields and fields.setdefault(name, fields[alias]) != fields.pop(alias):
                raise ValueError(f"{name} and its other name {alias} have different values; give one of them")
        cfg = ASMTrainConfig.from_dict({name: fields.pop(name) for name in MODEL_FIELDS if name in fields})
        for name in MODEL_FIELDS:
            setattr(self, name, getattr(cfg, name))
        self.variant, self.use_cache = variant, use_cache
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos_token_id, eos_token_id, pad_token_id
        super().__init__(**fields)
        from asa.registration import register_model  # there, this module is imported to be registered

        register_model()

    @classmethod
    def from_train_config(cls, cfg: ASMTrainConfig, **more: Any) -> ASMConfig:
        """The configuration of the model that `build_model_from_cfg(cfg)` makes."""
        return cls(**{name: getattr(cfg, name) for name in MODEL_FIELDS}, **more)

    def to_train_config(self) -> ASMTrainConfig:
        """The fields for `build_model_from_cfg`; those about data and training at their defaults."""
        return ASMTrainConfig.from_dict({name: getattr(self, name) for name in MODEL_FIELDS})
