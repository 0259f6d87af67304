"""Reading: how much of each slot a token takes. Logits, masks on slots, noise, override, and the four routing modes.

Symbols: q = queries [B, H, T, d], S = slot states [B, H, K, T, d], r = read weights [B, H, T, K].

    key = <q, slot key> / sqrt(d)        content = <q, S> / sqrt(d)        read logits = key + gamma content

A query carries no position code. Then, in this order: noise, override or mode, and the slot mask once more."""

import math

import torch
from building_blocks.scalars_and_rope import temperature

WHERE = ("read", "content_read_only", "slotspace_only")
SCOPES = ("all", "last_pos_only", "last_token")


def key_logits(q, slot_keys):
    """[B, H, T, K]."""
    return torch.einsum("bhtd,hkd->bhtk", q, slot_keys) / math.sqrt(q.shape[-1])


def content_logits(q, slots):
    """[B, H, T, K]: the query against what the slots hold now, not against past tokens."""
    return torch.einsum("bhtd,bhktd->bhtk", q, slots) / math.sqrt(q.shape[-1])


def kept_slots(slot_mask, n_slots):
    """[K] bool: a slot is kept where its mask is above 0."""
    if tuple(slot_mask.shape) != (n_slots,):
        raise ValueError(f"slot_mask: wanted shape [{n_slots}], one number a slot, got {list(slot_mask.shape)}")
    return slot_mask > 0


def positions_in_scope(where, scope, n_tokens, chunk, attention_mask, batch):
    """[B, T] bool: where a slot mask works.

    `last_pos_only` is the last position of every write chunk for masks on reading, and of the sequence for masks on slotspace.
    `last_token` is the last valid token of each row."""
    if where not in WHERE:
        raise ValueError(f"slot_mask_where: wanted one of {', '.join(WHERE)}, got {where!r}")
    if scope not in SCOPES:
        raise ValueError(f"slot_mask_scope: wanted one of {', '.join(SCOPES)}, got {scope!r}")
    found = torch.zeros(batch, n_tokens, dtype=torch.bool)
    for t in range(n_tokens):
        ends_chunk = (t + 1) % chunk == 0 and where != "slotspace_only"
        if scope == "all" or (scope == "last_pos_only" and (ends_chunk or t == n_tokens - 1)):
            found[:, t] = True
    if scope == "last_token":
        for b in range(batch):
            valid = range(n_tokens) if attention_mask is None else attention_mask[b].nonzero().flatten().tolist()
            if len(valid):
                found[b, valid[-1]] = True
    return found if attention_mask is None else found.to(attention_mask.device)


def add_noise(logits, kind, scale, generator=None):
    """Logits with Gumbel or normal noise. Drawn once a write chunk; what is logged stays without it."""
    if kind is None:
        return logits
    like = {"dtype": logits.dtype, "device": logits.device, "generator": generator}
    if kind == "gumbel":
        uniform = torch.rand(logits.shape, **like)
        return logits + scale * -torch.log((-torch.log(uniform.clamp(min=1e-8))).clamp(min=1e-8))
    if kind == "gaussian":
        return logits + scale * torch.randn(logits.shape, **like)
    raise ValueError(f"routing_noise: wanted None, 'gumbel' or 'gaussian', got {kind!r}")


def normalised(weights):
    """Divided by their sum over slots, but by 1e-8 where that is smaller: a row of zeros stays one."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-8)


def overridden(weights):
    """What an override gave, made weights: NaN and infinities are 0, nothing is negative, rows sum to 1."""
    return normalised(torch.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0))


def route(logits, mode, *, read_temperature=1.0, topk=2, external=None):
    """Read weights [B, H, L, K] of read logits [B, H, L, K] in one of the modes softmax, top1, topk and external."""
    if mode == "softmax":
        return torch.softmax(logits / temperature(read_temperature), dim=-1)
    if mode == "top1":
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    if mode == "topk":
        best = logits.topk(max(1, min(topk, logits.shape[-1])), dim=-1).indices
        left_out = torch.ones_like(logits, dtype=torch.bool).scatter(-1, best, False)
        return torch.softmax((logits / temperature(read_temperature)).masked_fill(left_out, -torch.inf), dim=-1)
    if mode == "external":
        if external is None:
            raise ValueError("routing_mode 'external' needs read_weights_override")
        return normalised(external)
    raise ValueError(f"routing_mode: wanted softmax, top1, topk or external, got {mode!r}")
