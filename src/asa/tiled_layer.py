"""From a layer's parameters to the tiled form and back: plans, rotation tables, the products of small maps, and the state after a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from asa import tiled
from asa.entry import Fixed, Weights
from asa.linear import matrix
from asa.rotary import Rotary, Turn
from asa.scan import WriteState
from asa.segment import Parameters
from asa.slotspace import SlotspaceState
from asa.state import LayerState
from asa.tiling import ENDLESS, Plan, segment_length, tile_length

if TYPE_CHECKING:
    from asa.functional import Layer
    from asa.layer import AddressedStateLayer


def fits(layer: AddressedStateLayer, length: int) -> bool:
    """Whether the tiled form computes this layer on so many tokens: reference writes in chunks that tiles of 8 to 128 tokens divide, and
    nobody watches the projections, which it multiplies as one matrix."""
    watched = any(m._forward_hooks or m._forward_pre_hooks for m in (layer.Wq_read, layer.Wk_write, layer.Wv_write))
    return layer.write_mode == "reference" and not watched and tile_length(layer.write_chunk_size, length) is not None


def forward(layer: AddressedStateLayer, x: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Layer outputs [b, T, C], with gradients."""
    plan, fixed, weights, small, dtype = _prepared(layer, x, attention_mask)
    with torch.autocast(x.device.type, enabled=False):
        heads = tiled.attend(plan, x.to(weights.projections.dtype), fixed, weights, small, dtype)
    return _project_out(layer, heads, x)


def prefill(
    layer: AddressedStateLayer, x: torch.Tensor, attention_mask: torch.Tensor | None
) -> tuple[torch.Tensor, LayerState]:
    """Layer outputs [b, T, C] of prompts that are padded on the right or not at all, and each row's state after its last valid token."""
    plan, fixed, weights, small, dtype = _prepared(layer, x, attention_mask, silence_after=True)
    with torch.autocast(x.device.type, enabled=False):
        start = tiled.empty(plan, dtype, x.device)
        ends: dict[int, tiled.ChunkEnd] = {}
        heads, state = tiled.walk(plan, x.to(weights.projections.dtype), fixed, weights, small, start, ends)
    lengths = torch.full((plan.batch,), x.shape[1], device=x.device) if fixed.valid is None else fixed.valid.sum(1)
    return _project_out(layer, heads, x), LayerState(
        _write_state(plan, state, ends, lengths), _slotspace_state(layer, plan, state)
    )


def _prepared(
    layer: AddressedStateLayer, x: torch.Tensor, attention_mask: torch.Tensor | None, *, silence_after: bool = False
) -> tuple[Plan, Fixed, Weights, Parameters, torch.dtype]:
    batch, length, _ = x.shape
    dtype = torch.promote_types(x.dtype, torch.float32)
    device = x.device.type
    working = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.out_proj.weight.dtype
    tile = tile_length(layer.write_chunk_size, length)
    assert tile is not None
    with torch.autocast(device, enabled=False):
        computing = layer.computing(dtype)
        plan = _plan(layer, batch, length, tile, silence_after)
        fixed = Fixed(
            _key_rotation(layer.rope, length, dtype, x.device),
            _rotation_in_tiles(layer.rope_slotspace, plan, length, dtype, x.device),
            None if attention_mask is None else attention_mask != 0,
            _averages_dropout(layer, batch, length, dtype, x.device),
            layer.normalize_k,
        )
        return (
            plan,
            fixed,
            _entry_weights(layer, computing, working),
            _small(layer, computing, dropped=fixed.dropout is not None),
            dtype,
        )


def _project_out(layer: AddressedStateLayer, heads: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    merged = heads.flatten(2).flatten(0, 1).T.unflatten(0, x.shape[:2])
    y: torch.Tensor = layer.out_proj(merged.to(layer.out_proj.weight.dtype))
    return y


def _plan(layer: AddressedStateLayer, batch: int, length: int, tile: int, silence_after: bool) -> Plan:
    chunk = layer.write_chunk_size if 0 < layer.write_chunk_size < length else ENDLESS
    return Plan(
        batch,
        layer.num_heads,
        layer.num_slots,
        layer.head_dim,
        layer.slotspace_dim if layer.use_slotspace_refine else 0,
        tile,
        chunk,
        segment_length(tile, chunk, batch * layer.num_heads),
        layer.read_temperature,
        layer.slotspace_signed_weights,
        layer.masks_before_features and not silence_after,
    )


def _entry_weights(layer: AddressedStateLayer, computing: Layer, working: torch.dtype) -> Weights:
    """Projections in the working dtype, slot keys and recency in that of the sums; rotary channels even ones first."""
    queries, keys, values = (matrix(linear) for linear in (layer.Wq_read, layer.Wk_write, layer.Wv_write))
    write_keys = computing.slot_keys * (layer.head_dim**-0.5 / layer.write_temperature)
    if layer.rope is not None:
        order = _halves(layer.head_dim, keys.device)
        keys, write_keys = keys.unflatten(0, (layer.num_heads, -1))[:, order].flatten(0, 1), write_keys[..., order]
    projections = torch.cat([queries, keys, values]).to(working)
    recency = None if computing.strength is None else computing.strength * computing.slopes
    return Weights(projections, write_keys, recency)


def _small(layer: AddressedStateLayer, computing: Layer, *, dropped: bool) -> Parameters:
    scale = layer.head_dim**-0.5
    read_keys, content = computing.slot_keys * scale, None if computing.gamma is None else computing.gamma * scale
    maps = computing.slotspace
    if maps is None:
        return Parameters(read_keys, content, None, None, None, None)
    order = _halves(layer.slotspace_dim, read_keys.device) if layer.rope_slotspace is not None else slice(None)
    features = torch.cat([maps.keys[order], maps.queries[order]])
    if dropped:
        return Parameters(read_keys, content, features, maps.values, maps.out, maps.gate)
    return Parameters(read_keys, content, features, None, maps.out @ maps.values, maps.gate)


def _key_rotation(rope: Rotary | None, length: int, dtype: torch.dtype, device: torch.device) -> Turn | None:
    """Tables [d/2, 1, T]."""
    if rope is None:
        return None
    cos, sin = (table.T.unsqueeze(1) for table in rope.table(length, device, dtype))
    return Turn(*(table.contiguous() for table in (cos[0::2], sin[0::2], cos[1::2], sin[1::2])))


def _rotation_in_tiles(
    rope: Rotary | None, plan: Plan, length: int, dtype: torch.dtype, device: torch.device
) -> Turn | None:
    """Tables [tiles, 1, M/2, L]."""
    if rope is None:
        return None
    tables = rope.table(-(-length // plan.tile) * plan.tile, device, dtype)
    cos, sin = (table.unflatten(0, (-1, plan.tile)).transpose(1, 2).unsqueeze(1) for table in tables)
    return Turn(*(table.contiguous() for table in (cos[:, :, 0::2], sin[:, :, 0::2], cos[:, :, 1::2], sin[:, :, 1::2])))


def _averages_dropout(
    layer: AddressedStateLayer, batch: int, length: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor | None:
    """Factors of dropout on slotspace averages, [H, M, b, T]: drawn once, because a backward pass may compute a segment again."""
    if not layer.training or layer.slotspace_dropout_rate <= 0 or layer.slot_in is None:
        return None
    ones = torch.ones(layer.num_heads, layer.slotspace_dim, batch, length, dtype=dtype, device=device)
    return F.dropout(ones, layer.slotspace_dropout_rate)


def _halves(width: int, device: torch.device) -> torch.Tensor:
    """Even channels, then odd ones: rotary pairs become halves."""
    return torch.cat([torch.arange(0, width, 2, device=device), torch.arange(1, width, 2, device=device)])


def _write_state(plan: Plan, state: tiled.State, ends: dict[int, tiled.ChunkEnd], lengths: torch.Tensor) -> WriteState:
    """Each row's state stands in the chunk of its last token: what that chunk carried, and its sums at its end (padding added nothing)."""
    chunk = ((lengths - 1).clamp(min=0) // plan.chunk).tolist()
    picked = [_of_row(plan, ends[index], row) for row, index in enumerate(chunk)]
    carried_max, carried_num, carried_den, num, den = (torch.stack(parts) for parts in zip(*picked, strict=True))
    return WriteState(
        carried_max,
        carried_den,
        carried_num.transpose(2, 3),
        state.tops.running.permute(2, 0, 1),
        den,
        num.transpose(2, 3),
    )


def _slotspace_state(layer: AddressedStateLayer, plan: Plan, state: tiled.State) -> SlotspaceState | None:
    """The sums with their channels in the order of the maps again."""
    if plan.wide == 0:
        return None
    sums = state.sums.slotspace.view(plan.heads, plan.batch, plan.slots + 1, plan.wide).transpose(0, 1)
    if layer.rope_slotspace is not None:
        sums = sums[..., _halves(plan.wide, sums.device).argsort()]
    return SlotspaceState(sums[:, :, :-1].transpose(2, 3), sums[:, :, -1])


def _of_row(plan: Plan, end: tiled.ChunkEnd, row: int) -> tuple[torch.Tensor, ...]:
    """Maximum [H, K], sums [H, d, K] and weights [H, K] carried into a chunk, and its own sums and weights, of one row of the batch."""
    return tuple(part.view(plan.heads, plan.batch, *part.shape[1:])[:, row] for part in end)
