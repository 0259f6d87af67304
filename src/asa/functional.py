"""Addressed State Attention, chunk by chunk, with every intermediate at hand: the form that controls, records and decoding use.

Symbols: b = batch, H = heads, T = time, K = slots, d = head width, M = slotspace width; t0, t1 = borders of a write chunk. A chunk's slot
states [b, H, L, K, d] are formed at once, so memory grows with the chunk and not with T. `asa.tiled` computes the plain case faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from asa import refine
from asa.rotary import Rotary, rotate
from asa.routing import Routing, SlotMask, noisy, normalised, read_weights
from asa.scan import write_exact, write_reference
from asa.slotspace import SlotspaceState, SlotspaceWeights, average_reads, features
from asa.state import LayerState


@dataclass(slots=True)
class Layer:
    """What a layer computes with: its tensors and constants, nothing of how it is called."""

    slot_keys: torch.Tensor  # [H, K, d], after slot dropout
    strength: torch.Tensor | None  # scalar; None without the recency bias
    slopes: torch.Tensor  # [H]
    gamma: torch.Tensor | None  # scalar weight of content logits; None without content read
    slotspace: SlotspaceWeights | None
    rope_keys: Rotary | None
    rope_slotspace: Rotary | None
    read_temperature: float
    write_temperature: float
    normalize_k: bool
    signed: bool
    chunk: int
    exact: bool
    masks_before_features: bool  # the online class silences slotspace maps before phi, the others after
    dropout: Callable[[torch.Tensor], torch.Tensor]  # of the slotspace average


@dataclass(slots=True)
class Projected:
    """Queries, keys, values [b, H, T, d] of the tokens at `positions` [b or 1, T]; `valid` [b, T] or None."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    positions: torch.Tensor
    valid: torch.Tensor | None

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.queries.shape[2]


@dataclass(slots=True)
class Recorded:
    """What a call saw, as lists over chunks; joined by `asa.info`."""

    parts: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    keeps_slots: bool = False  # whole slot states: d times the size of everything else

    def add(self, **tensors: torch.Tensor | None) -> None:
        """Keep one chunk's tensors, cut off from the graph."""
        for name, tensor in tensors.items():
            if tensor is not None:
                self.parts.setdefault(name, []).append(tensor.detach())


@dataclass(slots=True)
class Chunk:
    """One write chunk on its way from logits to the head output."""

    t0: int
    t1: int
    length: int
    queries: torch.Tensor
    slots: torch.Tensor  # [b, H, L, K, d]
    valid: torch.Tensor | None
    last_valid: torch.Tensor
    position: torch.Tensor  # [b], of its first token in the text


def attend(
    layer: Layer,
    given: Projected,
    state: LayerState,
    offset: torch.Tensor,
    routing: Routing,
    mask: SlotMask,
    how: refine.Refine | None = None,
    record: Recorded | None = None,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, LayerState]:
    """Head outputs [b, H, T, d] of tokens that follow `state`, and the state after them.

    `offset` [b] is how many tokens each row had read; a row's chunk ends where its own position is a multiple of the chunk size.
    `lengths` [b]: valid tokens of each row of a right-padded batch; the state of a row then stands after its last one."""
    raw, logits = write_logits(layer, given)
    last_valid = _last_valid(given.valid, given.length, offset)
    outputs = []
    for t0, t1 in chunk_borders(offset, given.length, layer.chunk):
        write = state.write
        if not layer.exact:
            begins = (offset + t0) % layer.chunk == 0
            write = write.folded(begins if lengths is None else begins & (t0 < lengths))
        written = (write_exact if layer.exact else write_reference)(
            logits[..., t0:t1], given.values[:, :, t0:t1], write
        )
        chunk = Chunk(
            t0,
            t1,
            given.length,
            given.queries[:, :, t0:t1],
            written.slots,
            None if given.valid is None else given.valid[:, t0:t1],
            last_valid,
            offset + t0,
        )
        output, slotspace = _read_chunk(layer, chunk, given, state.slotspace, routing, mask, how, record)
        state = LayerState(written.state, slotspace)
        outputs.append(output)
        if record is not None:
            record.add(
                write_logits_raw=raw[..., t0:t1],
                write_logits=logits[..., t0:t1],
                slot_state_norm=written.slots.detach().norm(dim=-1).transpose(2, 3),
                slots=written.slots if record.keeps_slots else None,
            )
    return torch.cat(outputs, dim=2), state


def write_logits(layer: Layer, given: Projected) -> tuple[torch.Tensor, torch.Tensor]:
    """Write logits [b, H, K, T] before and after temperature, recency bias and mask."""
    keys = given.keys
    if layer.normalize_k:
        keys = keys / keys.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    if layer.rope_keys is not None:
        cos, sin = _tables(layer.rope_keys, given.positions, keys)
        keys = rotate(keys, cos, sin)
    raw = layer.slot_keys @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5
    logits = raw / layer.write_temperature
    bias = alibi_bias(layer.strength, layer.slopes, given.positions)
    if bias is not None:
        logits = logits + bias
    if given.valid is not None:
        logits = logits.masked_fill(~given.valid[:, None, None, :], -torch.inf)
    return raw, logits


def alibi_bias(strength: torch.Tensor | None, slopes: torch.Tensor, positions: torch.Tensor) -> torch.Tensor | None:
    """strength * slope * t, [b or 1, H, 1, T]; None without the bias."""
    if strength is None:
        return None
    return strength * slopes[None, :, None, None] * positions[:, None, None, :].to(slopes.dtype)


def chunk_borders(offset: torch.Tensor, length: int, chunk: int) -> list[tuple[int, int]]:
    """Pieces of the new tokens in which no row crosses a border of its chunks. Rows at different positions make shorter pieces."""
    inside = sorted({int(o) % chunk for o in offset.unique()})
    borders, t = [], 0
    while t < length:
        end = min(min(chunk - (o + t) % chunk for o in inside) + t, length)
        borders.append((t, end))
        t = end
    return borders


def _read_chunk(
    layer: Layer,
    chunk: Chunk,
    given: Projected,
    slotspace: SlotspaceState | None,
    routing: Routing,
    mask: SlotMask,
    how: refine.Refine | None,
    record: Recorded | None,
) -> tuple[torch.Tensor, SlotspaceState | None]:
    weights = _route(layer, chunk, routing, mask, record)
    read = torch.einsum("bhlk,bhlkd->bhld", weights, chunk.slots)
    if layer.slotspace is None or slotspace is None:
        if record is not None:
            record.add(read_weights=weights, out1=read)
        return read, None
    pre_activation, slotspace = _slotspace(layer, chunk, given, weights, slotspace)
    refined = torch.einsum("bhlk,bhlkd->bhld", _activated(layer, chunk, pre_activation, mask), chunk.slots)
    delta = layer.slotspace.gate * refined
    used, logs = (delta, {}) if how is None else refine.intervene(read, delta, pre_activation, how)
    if record is not None:
        record.add(
            read_weights=weights, out1=read, delta=delta, slot_w=pre_activation, refined_norm=refined.norm(dim=-1)
        )
        record.add(**{name: value if value.ndim == 1 else value.mean() for name, value in logs.items()})
        if how is not None:
            record.add(**refine.geometry(read.detach(), delta.detach()))
    return read + used, slotspace


def _route(layer: Layer, chunk: Chunk, routing: Routing, mask: SlotMask, record: Recorded | None) -> torch.Tensor:
    scale = chunk.queries.shape[-1] ** -0.5
    by_key = torch.einsum("bhld,hkd->bhlk", chunk.queries, layer.slot_keys) * scale
    by_content = None if layer.gamma is None else torch.einsum("bhld,bhlkd->bhlk", chunk.queries, chunk.slots) * scale
    dropped = mask.dropped(chunk.t0, chunk.t1, chunk.length, chunk.last_valid)
    if dropped is not None and mask.where == "content_read_only" and by_content is not None:
        by_content = by_content.masked_fill(dropped, 0.0)
    logits = by_key if by_content is None else by_key + layer.gamma * by_content
    masks_reads = dropped is not None and mask.where == "read"
    if masks_reads:
        # The sum is masked as a whole: a content weight of exactly 0 times -inf would be NaN.
        logits, by_key = (x.masked_fill(dropped, -torch.inf) for x in (logits, by_key))
        by_content = None if by_content is None else by_content.masked_fill(dropped, -torch.inf)
    if record is not None:
        record.add(read_logits=logits, read_logits_key=by_key, read_logits_content=by_content)
    logits = noisy(logits, routing)
    weights = read_weights(
        logits,
        routing,
        layer.read_temperature,
        chunk.t0,
        chunk.t1,
        chunk.length,
        lambda: _call_override(layer, chunk, routing, logits, by_key, by_content),
    )
    return normalised(weights.masked_fill(dropped, 0.0)) if masks_reads and dropped is not None else weights


def _call_override(
    layer: Layer,
    chunk: Chunk,
    routing: Routing,
    logits: torch.Tensor,
    by_key: torch.Tensor,
    by_content: torch.Tensor | None,
) -> torch.Tensor:
    batch, heads, span, slots = logits.shape
    context: dict[str, Any] = {
        "t0": chunk.t0,
        "t1": chunk.t1,
        "B": batch,
        "H": heads,
        "T": chunk.length,
        "K": slots,
        "d": chunk.queries.shape[-1],
        "rtemp": layer.read_temperature,
        "state_dtype": chunk.slots.dtype,
        "q_read_c": chunk.queries,
        "slot_keys": layer.slot_keys,
        "slot_state_t": chunk.slots.transpose(2, 3),  # [b, H, K, L, d]: slot before time
        "valid": chunk.valid,
        "position": chunk.position,
    }
    assert callable(routing.override)
    found = routing.override(chunk.t0, chunk.t1, logits, by_key, by_content, context)
    if not isinstance(found, torch.Tensor) or found.shape[-2:] != (span, slots):
        got = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(
            f"routing_override returned {got} for positions {chunk.t0} to {chunk.t1}: wanted [{batch}, {heads}, {span}, {slots}]"
        )
    return found.expand(batch, heads, span, slots)


def _slotspace(
    layer: Layer, chunk: Chunk, given: Projected, weights: torch.Tensor, state: SlotspaceState
) -> tuple[torch.Tensor, SlotspaceState]:
    """Pre-activation slot weights z [b, H, L, K], and the sums after the chunk."""
    maps = layer.slotspace
    assert maps is not None
    cos = sin = None
    if layer.rope_slotspace is not None:
        cos, sin = _tables(layer.rope_slotspace, given.positions[:, chunk.t0 : chunk.t1], weights)
    reads = weights
    if chunk.valid is not None:
        kept = chunk.valid[:, None, :, None].to(weights.dtype)
        reads = weights * kept
    # Silencing before phi means phi(0) = 1 in every channel of a masked token; after phi it means 0.
    source = reads if layer.masks_before_features else weights
    queries, keys = features(source, maps.queries, cos, sin), features(source, maps.keys, cos, sin)
    if chunk.valid is not None and not layer.masks_before_features:
        queries, keys = queries * kept, keys * kept
    average, state = average_reads(reads, queries, keys, state)
    return layer.dropout(average @ maps.values.T) @ maps.out.T, state


def _activated(layer: Layer, chunk: Chunk, pre_activation: torch.Tensor, mask: SlotMask) -> torch.Tensor:
    weights = torch.tanh(pre_activation) if layer.signed else torch.softmax(pre_activation, dim=-1)
    dropped = (
        mask.dropped(chunk.t0, chunk.t1, chunk.length, chunk.last_valid) if mask.where == "slotspace_only" else None
    )
    if dropped is None:
        return weights
    weights = weights.masked_fill(dropped, 0.0)
    return weights if layer.signed else normalised(weights)


def _tables(rope: Rotary, positions: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = rope.at(positions, like.dtype)
    return cos.unsqueeze(1), sin.unsqueeze(1)  # [b or 1, 1, T, width]


def _last_valid(valid: torch.Tensor | None, length: int, offset: torch.Tensor) -> torch.Tensor:
    if valid is None:
        return torch.full_like(offset, length - 1)
    columns = torch.arange(length, device=valid.device)
    return torch.where(valid, columns, -1).amax(1)  # -1: a row of padding has no last token
