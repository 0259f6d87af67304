"""One layer of Addressed State Attention, whole: write, read, route, refine, project. The default class, in evaluation mode.

`state` holds the parameters of the layer by name (a state dict; position-code buffers may be among them), settings are those of its
constructor, and the other keywords are those of its call. Two things differ from the reference unless `strict_reference` is asked for:
slots are 0, not NaN, before anything was written, and masking all slots, or masking with a content weight of exactly 0, gives no NaN."""

from types import SimpleNamespace

import torch
from building_blocks.prefix_write import alibi_bias, slot_states, write_logits
from building_blocks.routing import (
    add_noise,
    content_logits,
    kept_slots,
    key_logits,
    normalised,
    overridden,
    positions_in_scope,
    route,
)
from building_blocks.scalars_and_rope import (
    alibi_slopes,
    alibi_strength,
    content_gamma,
    merge_heads,
    rope,
    rope_frequencies,
    settings_of,
    slotspace_gate,
    split_heads,
    temperature,
)
from building_blocks.slotspace import slot_weights, slotspace

CALL = {
    "routing_mode": "softmax",
    "routing_topk": 2,
    "read_weights_override": None,
    "routing_noise": None,
    "routing_noise_scale": 1.0,
    "routing_override": None,
    "slot_mask": None,
    "slot_mask_where": "read",
    "slot_mask_scope": "all",
    "generator": None,
    "strict_reference": False,
}


def asa_default(x, state, *, attention_mask=None, **keywords):
    """(y [B, T, C], info) of x [B, T, C]. `attention_mask` [B, T]: 0 marks padding."""
    call = SimpleNamespace(**{name: keywords.pop(name, value) for name, value in CALL.items()})
    settings = settings_of(keywords)
    parts = write_and_read(x, state, settings, call, attention_mask)
    heads = parts.o + parts.delta
    return merge_heads(heads) @ state["out_proj.weight"].T, default_info(parts, settings, call)


def write_and_read(x, state, settings, call, attention_mask=None, *, refine_chunk=None, mask_before_features=False):
    """Everything between the input and the sum of heads: o and delta [B, H, T, d], and all that led to them."""
    n_heads, n_slots, width = state["slot_keys"].shape
    n_tokens = x.shape[1]
    chunk = settings.write_chunk_size or n_tokens
    p = SimpleNamespace(chunk=chunk, slot_keys=state["slot_keys"], mask=attention_mask)

    k = split_heads(x @ state["Wk_write.weight"].T, n_heads)
    p.v = split_heads(x @ state["Wv_write.weight"].T, n_heads)
    p.q = split_heads(x @ state["Wq_read.weight"].T, n_heads)
    if settings.normalize_k:
        k = k / torch.linalg.vector_norm(k, dim=-1, keepdim=True).clamp(min=1e-8)
    if settings.use_rope_keys:
        frequencies = state.get("rope.inv_freq")
        k = rope(k, rope_frequencies(width, settings.rope_base, k) if frequencies is None else frequencies)

    p.strength = alibi_strength(state, settings) if settings.use_alibi_write else None
    p.gamma = content_gamma(state, settings)
    slopes = alibi_slopes(n_heads)
    p.bias = alibi_bias(p.strength, slopes, n_tokens, k) if settings.use_alibi_write else None
    p.raw, p.w = write_logits(k, p.slot_keys, settings, p.strength, slopes, attention_mask)
    p.S = slot_states(
        p.w,
        p.v,
        write_mode=settings.write_mode,
        write_chunk_size=chunk,
        strict_reference=call.strict_reference,
    )

    masked = slots_masked(call, n_slots, n_tokens, chunk, attention_mask, x.shape[0])
    read_masked = masked if call.slot_mask_where == "read" else None
    p.key, p.content, p.logits = masked_read_logits(p, settings, call, masked)
    p.r = read_weights(p, settings, call, read_masked)
    p.o = read(p.r, p.S)

    p.z, p.e, p.gate = None, None, None
    p.unscaled, p.delta = torch.zeros_like(p.o), torch.zeros_like(p.o)
    if settings.use_slotspace_refine:
        p.gate = slotspace_gate(state)
        p.z = slotspace(
            p.r,
            state,
            settings,
            attention_mask,
            chunk=refine_chunk or settings.slotspace_chunk_size or n_tokens,
            mask_before_features=mask_before_features,
        )
        refine_masked = masked if call.slot_mask_where == "slotspace_only" else None
        p.e = slot_weights(p.z, settings.slotspace_signed_weights, refine_masked)
        p.unscaled = read(p.e, p.S)
        p.delta = p.gate * p.unscaled
    return p


def read(weights, slots):
    """[B, H, T, d]: at every position, over every slot, weight [B, H, T, K] times slot state [B, H, K, T, d]."""
    positions = []
    for t in range(weights.shape[2]):
        total = torch.zeros_like(slots[:, :, 0, 0])
        for k in range(weights.shape[3]):
            total = total + weights[:, :, t, k, None] * slots[:, :, k, t]
        positions.append(total)
    return torch.stack(positions, dim=2)


def slots_masked(call, n_slots, n_tokens, chunk, attention_mask, batch):
    """[B, 1, T, K] bool, True where a slot is masked at a position; None without a mask."""
    scope = positions_in_scope(call.slot_mask_where, call.slot_mask_scope, n_tokens, chunk, attention_mask, batch)
    if call.slot_mask is None:
        return None
    kept = kept_slots(call.slot_mask, n_slots)
    if not kept.any() and call.slot_mask_where == "read" and not call.strict_reference:
        raise ValueError("slot_mask: all slots are masked, so there is nothing to read; keep at least one")
    return scope.to(kept.device)[:, None, :, None] & ~kept[None, None, None, :]


def masked_read_logits(p, settings, call, masked):
    """(key, content or None, sum), [B, H, T, K] each. Masked on reading: -inf in all; masked in content only: content is 0."""
    key = key_logits(p.q, p.slot_keys)
    content = content_logits(p.q, p.S) if settings.use_content_read else None
    if masked is not None and call.slot_mask_where == "content_read_only" and content is not None:
        content = content.masked_fill(masked, 0.0)
    total = key if content is None else key + p.gamma * content
    if masked is None or call.slot_mask_where != "read":
        return key, content, total
    key = key.masked_fill(masked, -torch.inf)
    if content is None:
        return key, None, key
    content = content.masked_fill(masked, -torch.inf)
    # gamma * -inf is NaN where gamma is 0
    return key, content, key + p.gamma * content if call.strict_reference else total.masked_fill(masked, -torch.inf)


def read_weights(p, settings, call, read_masked):
    """r [B, H, T, K], chunk by chunk as noise is drawn and an override is asked."""
    n_tokens = p.logits.shape[2]
    chunks = []
    for t0 in range(0, n_tokens, p.chunk):
        t1 = min(t0 + p.chunk, n_tokens)
        logits = add_noise(p.logits[:, :, t0:t1], call.routing_noise, call.routing_noise_scale, call.generator)
        if call.routing_override is not None:
            r = overridden(asked_override(p, settings, call.routing_override, logits, t0, t1))
        else:
            r = route(
                logits,
                call.routing_mode,
                read_temperature=settings.read_temperature,
                topk=call.routing_topk,
                external=external_weights(call.read_weights_override, n_tokens, t0, t1),
            )
        if read_masked is not None:
            r = normalised(r * ~read_masked[:, :, t0:t1])
        chunks.append(r)
    return torch.cat(chunks, dim=2)


def external_weights(given, n_tokens, t0, t1):
    """The part of given read weights that belongs to a chunk; all of them where they are not one row a token."""
    return given[..., t0:t1, :] if given is not None and given.shape[-2] == n_tokens else given


def asked_override(p, settings, override, logits, t0, t1):
    """What an override says for positions t0 .. t1 - 1: a part of a tensor [B, H, T, K], or the answer of a function."""
    if torch.is_tensor(override):
        return override[:, :, t0:t1]
    batch, n_heads, n_tokens, n_slots = p.logits.shape
    content = None if p.content is None else p.content[:, :, t0:t1]
    ctx = {
        "t0": t0,
        "t1": t1,
        "B": batch,
        "H": n_heads,
        "T": n_tokens,
        "K": n_slots,
        "d": p.q.shape[-1],
        "rtemp": temperature(settings.read_temperature),
        "state_dtype": p.q.dtype,
        "q_read_c": p.q[:, :, t0:t1],
        "slot_keys": p.slot_keys,
        "slot_state_t": p.S[:, :, :, t0:t1],
        "valid": None if p.mask is None else p.mask[:, t0:t1] != 0,
    }
    return override(t0, t1, logits, p.key[:, :, t0:t1], content, ctx)


def default_info(p, settings, call):
    """What the layer tells about itself, detached."""
    info = {
        "read_weights": p.r,
        "read_logits": p.logits,
        "read_logits_key": p.key,
        "read_logits_content": p.content,
        "write_logits_raw": p.raw,
        "write_logits": p.w,
        "slot_state_norm": torch.linalg.vector_norm(p.S, dim=-1),
        "content_read_gamma": p.gamma,
        "routing_mode": call.routing_mode,
        "slot_mask_where": call.slot_mask_where,
        "slot_mask_scope": call.slot_mask_scope,
    }
    if settings.use_alibi_write:
        info["alibi_bias_applied"] = p.bias
        if settings.learn_alibi_strength:
            info["alibi_strength"] = p.strength
    if settings.use_slotspace_refine:
        info["slotspace_gate"] = p.gate
        info["use_rope_slotspace"] = torch.tensor(bool(settings.use_rope_slotspace))
        info["slotspace_delta_norm"] = torch.linalg.vector_norm(p.unscaled, dim=-1).mean()  # without the gate
    return detached(info)


def detached(info):
    """The same, with tensors that no gradient flows through."""
    return {name: value.detach() if torch.is_tensor(value) else value for name, value in info.items()}
