"""Where each architecture keeps its sites: one table a family, paths relative to a layer, `.input` or `.output` of a module.

The eight sites of a layer n, in the order in which they are computed (a parallel block reads both halves from one stream):

    resid_pre   the residual stream that enters the layer
    attn_out    what attention adds to it (after its own norm where the family has one)
    resid_mid   the stream between attention and MLP; absent where both read the same stream
    mlp_in      what the MLP reads, after the norm
    mlp_pre     the input of the activation function (of the gate, where the MLP is gated)
    mlp_act     the input of the down projection: the hidden units. Sparsity is measured here, never on mlp_out
    mlp_out     what the MLP adds to the stream
    resid_post  the stream that leaves the layer (of the last layer: before the final norm)

For every family, resid_pre + attn_out = resid_mid and resid_mid + mlp_out = resid_post (parallel: resid_pre + both), checked in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_in", "mlp_pre", "mlp_act", "mlp_out", "resid_post")


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture: the path of its list of layers, its sites, and what is absent under which configuration.

    sites   site -> path in a layer, "" for the layer itself, with .input or .output
    down    path in a layer of the down projection
    heads   path in a layer of what takes the concatenated head outputs (its input is TransformerLens' hook_z)
    embed   path of the token embedding
    absent  configuration -> {site: why it is not there}
    records sites that are read from a layer's own record instead of a module's input or output"""

    layers: str
    sites: Mapping[str, str]
    down: str
    heads: str
    embed: str
    absent: Callable[[Any], dict[str, str]] = lambda config: {}
    records: tuple[str, ...] = ()


def _parallel(config: Any) -> dict[str, str]:
    return {"resid_mid": "attention and MLP read the same stream, so nothing stands between them"}


def _neox_absent(config: Any) -> dict[str, str]:
    return _parallel(config) if getattr(config, "use_parallel_residual", True) else {}


def _opt_absent(config: Any) -> dict[str, str]:
    if getattr(config, "do_layer_norm_before", True):
        return {}
    return {"resid_mid": "this OPT normalises after each half, so its stream is never read between them"}


_GPT2 = Family(
    layers="transformer.h",
    sites={
        "resid_pre": ".input",
        "attn_out": "attn.output",
        "resid_mid": "ln_2.input",
        "mlp_in": "mlp.input",
        "mlp_pre": "mlp.c_fc.output",
        "mlp_act": "mlp.c_proj.input",
        "mlp_out": "mlp.output",
        "resid_post": ".output",
    },
    down="mlp.c_proj",
    heads="attn.c_proj",
    embed="transformer.wte",
)
_GPT_NEO = Family(
    layers="transformer.h",
    sites=_GPT2.sites,
    down="mlp.c_proj",
    heads="attn.attention.out_proj",
    embed="transformer.wte",
)
_NEOX = Family(
    layers="gpt_neox.layers",
    sites={
        "resid_pre": ".input",
        "attn_out": "attention.output",
        "resid_mid": "post_attention_layernorm.input",
        "mlp_in": "mlp.input",
        "mlp_pre": "mlp.dense_h_to_4h.output",
        "mlp_act": "mlp.dense_4h_to_h.input",
        "mlp_out": "mlp.output",
        "resid_post": ".output",
    },
    down="mlp.dense_4h_to_h",
    heads="attention.dense",
    embed="gpt_neox.embed_in",
    absent=_neox_absent,
)
_LLAMA = Family(
    layers="model.layers",
    sites={
        "resid_pre": ".input",
        "attn_out": "self_attn.output",
        "resid_mid": "post_attention_layernorm.input",
        "mlp_in": "mlp.input",
        "mlp_pre": "mlp.gate_proj.output",
        "mlp_act": "mlp.down_proj.input",
        "mlp_out": "mlp.output",
        "resid_post": ".output",
    },
    down="mlp.down_proj",
    heads="self_attn.o_proj",
    embed="model.embed_tokens",
)
_GEMMA2 = Family(
    layers="model.layers",
    sites={
        **_LLAMA.sites,
        "attn_out": "post_attention_layernorm.output",
        "resid_mid": "pre_feedforward_layernorm.input",
        "mlp_out": "post_feedforward_layernorm.output",
    },
    down="mlp.down_proj",
    heads="self_attn.o_proj",
    embed="model.embed_tokens",
)
_PHI = Family(
    layers="model.layers",
    sites={
        "resid_pre": ".input",
        "attn_out": "self_attn.output",
        "mlp_in": "mlp.input",
        "mlp_pre": "mlp.fc1.output",
        "mlp_act": "mlp.fc2.input",
        "mlp_out": "mlp.output",
        "resid_post": ".output",
    },
    down="mlp.fc2",
    heads="self_attn.dense",
    embed="model.embed_tokens",
    absent=_parallel,
)
_OPT = Family(
    layers="model.decoder.layers",
    sites={
        "resid_pre": ".input",
        "attn_out": "self_attn.output",
        "resid_mid": "final_layer_norm.input",
        "mlp_in": "fc1.input",
        "mlp_pre": "fc1.output",
        "mlp_act": "fc2.input",
        "mlp_out": "fc2.output",
        "resid_post": ".output",
    },
    down="fc2",
    heads="self_attn.out_proj",
    embed="model.decoder.embed_tokens",
    absent=_opt_absent,
)
_ASM = Family(
    layers="blocks",
    sites={
        "resid_pre": ".input",
        "attn_out": "asa.output",
        "resid_mid": "norm2.input",
        "mlp_in": "mlp.input",
        "mlp_pre": "mlp.0.output",
        "mlp_act": "mlp.3.input",
        "mlp_out": "mlp.output",
        "resid_post": ".output",
        "slot_reads": "asa.input",
        "slot_states": "asa.input",
    },
    down="mlp.3",
    heads="",
    embed="tok",
    records=("slot_reads", "slot_states"),
)

FAMILIES: Mapping[str, Family] = {
    "gpt2": _GPT2,
    "gpt_neo": _GPT_NEO,
    "gpt_neox": _NEOX,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA2,
    "phi": _PHI,
    "opt": _OPT,
    "asm": _ASM,
}
"""By the `model_type` of a configuration. ASM alone has slot_reads (read weights of all heads and slots, [H K] a token) and slot_states
(what every slot holds, [H K d] a token)."""
