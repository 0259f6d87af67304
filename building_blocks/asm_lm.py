"""The language model around the layer: pre-norm blocks of attention and MLP, in both public namings, and greedy decoding.

    x = x + attention(norm1(x));   x = x + mlp(norm2(x));   logits = lm_head(norm(x))

One naming says tok, pos, blocks.i.norm1/asa/norm2/mlp, norm, lm_head, and its MLP has no biases; the other token_emb, pos_emb,
blocks.i.ln_1/attn/ln_2/mlp with biases, ln_f, lm_head. Everything is in evaluation mode: no dropout. Sizes are read from the weights."""

import torch
import torch.nn.functional as F
from building_blocks.asa_default import asa_default
from building_blocks.scalars_and_rope import DEFAULTS

RENAMED = (
    ("token_emb.", "tok."),
    ("pos_emb.", "pos."),
    ("ln_f.", "norm."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".attn.", ".asa."),
)


def with_usual_names(state):
    """The state dict in the first naming, whichever it had."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in RENAMED:
            if name.startswith(old) or (old.startswith(".") and old in name):
                name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


def part(state, prefix):
    """The tensors below a prefix, under the names that they have there."""
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def layer_norm(x, parameters):
    """LayerNorm with weight and bias, eps 1e-5."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + 1e-5) * parameters["weight"] + parameters["bias"]


def mlp(x, parameters):
    """Linear, exact GELU, Linear; a bias that is not there is 0."""
    hidden = F.gelu(F.linear(x, parameters["0.weight"], parameters.get("0.bias")))
    return F.linear(hidden, parameters["3.weight"], parameters.get("3.bias"))


def number_of_blocks(state):
    """As many as have weights."""
    return 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))


def asm_lm(
    input_ids,
    state,
    cfg,
    *,
    attention_mask=None,
    attention=asa_default,
    layer_controls=None,
    after_block=None,
    **controls,
):
    """(logits [B, T, V], [info per block]) of input_ids [B, T].

    `cfg` is a dict of the training configuration's fields; those of the layer are taken from it. `attention` is the layer's function.
    `controls` go to every layer, `layer_controls` {block: {...}} to one. `after_block` {block: f} replaces a block's output x by f(x). The info of
    a block is that of its layer, and `block_output` [B, T, C]."""
    state = with_usual_names(state)
    n_tokens = input_ids.shape[1]
    if n_tokens > cfg.get("max_seq_len", 256):
        raise ValueError(f"input_ids: {n_tokens} tokens, and the model reads at most {cfg.get('max_seq_len', 256)}")
    settings = {name: value for name, value in cfg.items() if name in DEFAULTS}
    x = state["tok.weight"][input_ids]
    if cfg.get("use_abs_pos", False):
        x = x + state["pos.weight"][:n_tokens]
    infos = []
    for i in range(number_of_blocks(state)):
        parameters = part(state, f"blocks.{i}.")
        own = (layer_controls or {}).get(i, {})
        y, info = attention(
            layer_norm(x, part(parameters, "norm1.")),
            part(parameters, "asa."),
            attention_mask=attention_mask,
            **settings,
            **{**controls, **own},
        )
        x = x + y
        x = x + mlp(layer_norm(x, part(parameters, "norm2.")), part(parameters, "mlp."))
        if after_block and i in after_block:
            x = after_block[i](x)
        info["block_output"] = x.detach()
        infos.append(info)
    return F.linear(layer_norm(x, part(state, "norm.")), state["lm_head.weight"]), infos


def asm_greedy(input_ids, state, cfg, *, max_new_tokens=120, eos_id=None):
    """Token ids of one continuation [1, T + new]: the whole sequence is read again for every token, at most the last max_seq_len of it."""
    ids = input_ids
    for _ in range(max_new_tokens):
        logits, _ = asm_lm(ids[:, -cfg.get("max_seq_len", 256) :], state, cfg)
        token = logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], dim=1)
        if eos_id is not None and token.item() == eos_id:
            break
    return ids
