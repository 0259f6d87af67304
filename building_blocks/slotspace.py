"""Slotspace refinement: read weights are mixed over time in a small space by causal linear attention, and weigh the slots once more.

    u = slot_in r;  qs, ks, vs = slot_q u, slot_k u, slot_v u      [B, H, T, M], one set of weights for all heads
    qf, kf = phi(rope(qs)), phi(rope(ks))                          phi(z) = elu(z) + 1
    Sx_t = sum_{s<=t} kf_s vs_s^T;   Z_t = max(sum_{s<=t} kf_s, 1e-8)
    u2_t = qf_t Sx_t / max(qf_t . Z_t, 1e-8);   z_t = slot_out u2_t;   e_t = tanh(z_t), or softmax(z_t) where weights are unsigned

Padding: the default and the intervening layer set qf, kf and vs to 0 there. The online layer sets qs, ks and vs to 0 before phi; as
phi(0) = 1, padding inside a sequence then counts in Z."""

import torch
import torch.nn.functional as F
from building_blocks.scalars_and_rope import rope, rope_frequencies


def features(x):
    """phi: above 0 everywhere."""
    return F.elu(x) + 1


def slotspace(r, state, settings, attention_mask=None, *, chunk, mask_before_features=False):
    """z [B, H, T, K] of read weights r [B, H, T, K]: token by token, the sum of outer products kept as a whole.

    `chunk` matters at its borders only: there the lower bound of Z is carried on."""
    u = r @ state["slot_in.weight"].T
    qs, ks, vs = (u @ state[f"slot_{name}.weight"].T for name in "qkv")
    if settings.use_rope_slotspace:
        frequencies = state.get("rope_slotspace.inv_freq")
        if frequencies is None:
            frequencies = rope_frequencies(qs.shape[-1], settings.rope_base_slotspace, qs)
        qs, ks = rope(qs, frequencies), rope(ks, frequencies)
    valid = 1.0 if attention_mask is None else (attention_mask != 0)[:, None, :, None].to(r.dtype)
    if mask_before_features:
        qf, kf, vs = features(qs * valid), features(ks * valid), vs * valid
    else:
        qf, kf, vs = features(qs) * valid, features(ks) * valid, vs * valid
    products = torch.zeros_like(vs[:, :, 0, :, None] * vs[:, :, 0, None, :])  # Sx [B, H, M, M]
    total = torch.zeros_like(kf[:, :, 0])  # [B, H, M]
    mixed = []
    for t in range(r.shape[2]):
        if t > 0 and t % chunk == 0:
            total = total.clamp(min=1e-8)
        products = products + kf[:, :, t, :, None] * vs[:, :, t, None, :]
        total = total + kf[:, :, t]
        above = (qf[:, :, t, :, None] * products).sum(2)
        below = (qf[:, :, t] * total.clamp(min=1e-8)).sum(-1, keepdim=True)
        mixed.append(above / below.clamp(min=1e-8))
    return torch.stack(mixed, dim=2) @ state["slot_out.weight"].T


def slot_weights(z, signed, masked=None):
    """e [B, H, T, K]. `masked` [B, 1, T, K] bool: slots that count 0; what is left sums to 1 again where weights are unsigned."""
    e = torch.tanh(z) if signed else torch.softmax(z, dim=-1)
    if masked is None:
        return e
    e = e.masked_fill(masked, 0.0)
    return e if signed else e / e.sum(-1, keepdim=True).clamp(min=1e-8)
