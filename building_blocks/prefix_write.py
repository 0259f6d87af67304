"""The prefix write: what a slot holds after each token. Two definitions, each token by token and slot by slot.

Symbols: w = write logits [B, H, K, T] (-inf where a token is masked), v = values [B, H, T, d], S = slot states [B, H, K, T, d].

`exact` is what the papers describe: S_t is the mean of v_s over all s <= t with the weights exp(w_s), a softmax over the prefix.
`reference` is what the published checkpoints compute. Let Mx_t be the largest w_s so far, and N0, D0, Mp the sums and the maximum at the
end of the chunk before. Then, for t in a chunk that begins at c0,

    a_s = exp(w_s - Mx_s)          rho_t = exp(Mp - Mx_t)
    D_t = rho_t D0 + sum_{s=c0..t} a_s          N_t = rho_t N0 + sum_{s=c0..t} a_s v_s          S_t = N_t / max(D_t, 1e-8)

A weight inside a chunk is relative to the maximum when the token came, and is not rescaled when the maximum rises later in the same chunk;
so the borders of chunks are part of the function, and only chunks of one token give the exact form.

Where nothing was written yet, S is 0. The reference has NaN there: its rho is exp(-inf + inf). `strict_reference` gives that."""

import math

import torch
from building_blocks.scalars_and_rope import temperature


def write_logits(keys, slot_keys, settings, strength, slopes, attention_mask):
    """(raw, w), both [B, H, K, T], of keys [B, H, T, d] after the position code and slot keys [H, K, d].

    raw = <slot key, key> / sqrt(d);  w = raw / temperature + strength * slope * t, and -inf where `attention_mask` [B, T] is 0."""
    n_tokens, width = keys.shape[-2:]
    raw = torch.einsum("hkd,bhtd->bhkt", slot_keys, keys) / math.sqrt(width)
    w = raw / temperature(settings.write_temperature)
    if settings.use_alibi_write:
        w = w + alibi_bias(strength, slopes, n_tokens, keys)
    if attention_mask is not None:
        w = w.masked_fill(attention_mask[:, None, None, :] == 0, -torch.inf)
    return raw, w


def alibi_bias(strength, slopes, n_tokens, like):
    """[1, H, 1, T]: later tokens weigh more."""
    time = torch.arange(n_tokens, dtype=like.dtype, device=like.device)
    slopes = torch.tensor(slopes, dtype=like.dtype, device=like.device)
    return strength * slopes[None, :, None, None] * time[None, None, None, :]


def slot_states(w, v, *, write_mode="reference", write_chunk_size=128, strict_reference=False):
    """S [B, H, K, T, d]. A chunk size of 0 is the whole sequence."""
    if write_mode not in ("reference", "exact"):
        raise ValueError(f"write_mode: wanted 'reference' or 'exact', got {write_mode!r}")
    if write_chunk_size < 0:
        raise ValueError(f"write_chunk_size: wanted 0 (the whole sequence) or more, got {write_chunk_size}")
    slots = []
    for k in range(w.shape[2]):
        if write_mode == "exact":
            slots.append(exact_slot(w[:, :, k], v, strict_reference))
        else:
            slots.append(reference_slot(w[:, :, k], v, write_chunk_size or w.shape[-1], strict_reference))
    return torch.stack(slots, dim=2)


def exact_slot(w, v, strict_reference=False):
    """One slot: w [B, H, T], v [B, H, T, d] -> S [B, H, T, d]."""
    states = []
    for t in range(w.shape[-1]):
        prefix = w[:, :, : t + 1]
        written = torch.isfinite(prefix).any(-1, keepdim=True)
        if strict_reference:
            weights = torch.softmax(prefix, dim=-1)
        else:
            weights = torch.softmax(torch.where(written, prefix, 0.0), dim=-1) * written
        states.append((weights.unsqueeze(-1) * v[:, :, : t + 1]).sum(2))
    return torch.stack(states, dim=2)


def reference_slot(w, v, chunk, strict_reference=False):
    """One slot: w [B, H, T], v [B, H, T, d] -> S [B, H, T, d]."""
    n_tokens = w.shape[-1]
    maximum = torch.full_like(w[:, :, 0], -torch.inf)
    denominator, numerator = torch.zeros_like(w[:, :, 0]), torch.zeros_like(v[:, :, 0])
    states = []
    for start in range(0, n_tokens, chunk):
        maximum_before, denominator_before, numerator_before = maximum, denominator, numerator
        sum_of_weights, sum_of_values = torch.zeros_like(denominator), torch.zeros_like(numerator)
        for t in range(start, min(start + chunk, n_tokens)):
            maximum = torch.maximum(maximum, w[:, :, t])
            # before anything was written the maximum is -inf; any finite number in its place makes weight and rho 0
            bound = torch.where(torch.isfinite(maximum), maximum, 0.0)
            weight = torch.exp(w[:, :, t] - bound)
            rho = torch.exp(maximum_before - (maximum if strict_reference else bound))
            sum_of_weights = sum_of_weights + weight
            sum_of_values = sum_of_values + weight.unsqueeze(-1) * v[:, :, t]
            denominator = rho * denominator_before + sum_of_weights
            numerator = rho.unsqueeze(-1) * numerator_before + sum_of_values
            states.append(numerator / denominator.clamp(min=1e-8).unsqueeze(-1))
    return torch.stack(states, dim=2)
