"""The online layer: one pass over the chunks, and so slotspace goes by write chunks and padding is masked before its features.

Without padding it equals the default layer; with padding at the end the valid rows do; with padding inside a sequence later rows differ.
It has no routing arguments; an override and a slot mask are attributes, given here as keywords."""

from types import SimpleNamespace

import torch
from building_blocks.asa_default import CALL, write_and_read
from building_blocks.scalars_and_rope import merge_heads, settings_of


def asa_online(x, state, *, attention_mask=None, return_light_stats=False, **keywords):
    """(y [B, T, C], info) of x [B, T, C]. `info` is empty without `return_light_stats`."""
    given = {
        name: keywords.pop(name) for name in ("routing_override", "slot_mask", "strict_reference") if name in keywords
    }
    call = SimpleNamespace(**{**CALL, **given})
    settings = settings_of(keywords)
    if settings.write_chunk_size < 1:
        raise ValueError(f"write_chunk_size: the online layer wants 1 or more, got {settings.write_chunk_size}")
    p = write_and_read(
        x,
        state,
        settings,
        call,
        attention_mask,
        refine_chunk=settings.write_chunk_size,
        mask_before_features=True,
    )
    y = merge_heads(p.o + p.delta) @ state["out_proj.weight"].T
    return y, light_stats(p, settings) if return_light_stats else {}


def light_stats(p, settings):
    """Scalars: means over chunks of means over the chunk, so a short last chunk counts as much as a whole one."""
    entropies, shares = [], []
    for t0 in range(0, p.r.shape[2], p.chunk):
        r = p.r[:, :, t0 : t0 + p.chunk].detach()
        probability = r.clamp(min=1e-8)
        entropies.append(-(probability * probability.log()).sum(-1).mean())
        chosen = torch.bincount(r.argmax(-1).flatten(), minlength=r.shape[-1])
        shares.append(chosen.max() / chosen.sum())
    stats = {"entropy_mean": torch.stack(entropies).mean(), "top1freq_mean": torch.stack(shares).mean()}
    stats["content_read_gamma_mean"] = p.gamma.detach()
    if settings.use_alibi_write and settings.learn_alibi_strength:
        stats["alibi_strength_mean"] = p.strength.detach()
    if settings.use_slotspace_refine:
        stats["slotspace_gate_mean"] = p.gate.detach()
        stats["slotspace_delta_norm"] = torch.linalg.vector_norm(p.unscaled, dim=-1).mean().detach()  # without the gate
    return stats
