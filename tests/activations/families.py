"""A tiny model of every architecture that has a site map: three layers, width 32, vocabulary of 257."""

from __future__ import annotations

import torch
import transformers as tf

import asa.registration  # noqa: F401 - registers the architecture
from trialplate.models.causal_lm import CausalLM, initialise
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import byte_tokenizer

N_LAYERS = 3
_IDS = {"vocab_size": 257, "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 256}
_USUAL = {
    **_IDS,
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_GROUPED = {**_USUAL, "num_key_value_heads": 2, "head_dim": 8}


def config(family: str, **changes):
    """The configuration of a tiny model."""
    made = {
        "gpt2": lambda: tf.GPT2Config(**{**_IDS, "n_embd": 32, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 64, **changes}),
        "gpt_neo": lambda: tf.GPTNeoConfig(
            **{
                **_IDS,
                "hidden_size": 32,
                "num_layers": N_LAYERS,
                "num_heads": 4,
                "intermediate_size": 64,
                "max_position_embeddings": 64,
                "attention_types": [[["global", "local", "global"], 1]],
                **changes,
            }
        ),
        "gpt_neox": lambda: tf.GPTNeoXConfig(**{**_USUAL, **changes}),
        "llama": lambda: tf.LlamaConfig(**{**_GROUPED, **changes}),
        "mistral": lambda: tf.MistralConfig(**{**_GROUPED, **changes}),
        "qwen2": lambda: tf.Qwen2Config(**{**_USUAL, "num_key_value_heads": 2, **changes}),
        "qwen3": lambda: tf.Qwen3Config(**{**_GROUPED, **changes}),
        "gemma2": lambda: tf.Gemma2Config(**{**_GROUPED, **changes}),
        "phi": lambda: tf.PhiConfig(**{**_USUAL, **changes}),
        "opt": lambda: tf.OPTConfig(**{**_USUAL, "ffn_dim": 64, "word_embed_proj_dim": 32, **changes}),
        "asm": lambda: tf.AutoConfig.for_model(
            "asm", **{"vocab_size": 257, "embed_dim": 32, "num_layers": N_LAYERS, "num_heads": 4, "num_slots": 4, "slotspace_dim": 8,
                      "max_seq_len": 64, "write_chunk_size": 8, "dropout": 0.0, "slotspace_dropout": 0.0, **changes}
        ),
    }  # fmt: skip
    return made[family]()


FAMILIES = ("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "phi", "opt", "asm")


def tiny(family: str, seed: int = 0, **changes) -> CausalLM:
    """A tiny random model."""
    settings = config(family, **changes)
    module = initialise(tf.AutoModelForCausalLM.from_config(settings).__class__, settings, seed)
    return CausalLM(ModelSpec(f"tiny-{family}"), module, byte_tokenizer())


def ids(rows: int = 3, length: int = 20, seed: int = 0) -> torch.Tensor:
    """Random ids [rows, length]."""
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(seed))
