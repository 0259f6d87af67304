"""The way into a segment of the tiled form: projections, rotated write keys, write and read logits and their running maximum, all of one
segment while it lies in the cache; and the way back to the input.

Symbols: b = batch, H = heads, S = columns of the segment, K = slots, d = head width, C = H d. Tensors are [H, rows, b, S], time last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from asa.rotary import Turn, turn_halves, turn_halves_back
from asa.segment import Given, Gradients, Inputs
from asa.tiling import Plan, from_tiles, to_tiles


class Weights(NamedTuple):
    """Tensors of a layer that stand before the tiles. `projections` [3C, C]: queries, keys, values; with rotation the keys' rows have in each
    head the even channels first. `write_keys` [H, K, d] hold scale and temperature; `recency` [H], strength times slope."""

    projections: torch.Tensor
    write_keys: torch.Tensor
    recency: torch.Tensor | None


@dataclass(slots=True)
class Fixed:
    """What has no gradient. Rotation tables of keys [d/2, 1, T], and of slotspace in tiles [all tiles, 1, M/2, L]; `valid` [b, T]; factors of
    slotspace dropout [H, M, b, T]. Each may be None."""

    key_rotation: Turn | None
    slotspace_rotation: Turn | None
    valid: torch.Tensor | None
    dropout: torch.Tensor | None
    normalize_k: bool


@dataclass(slots=True)
class Entered:
    """What the way back needs: the keys that met slot keys [H, d, b, S]; which column holds the running maximum of each, [H, K, b, S + 1] with
    the maximum before the segment as column 0; and where keys are normalised, the raw ones and their norms."""

    keys: torch.Tensor
    records: torch.Tensor
    normalised: tuple[torch.Tensor, torch.Tensor] | None


class Tops(NamedTuple):
    """Running maxima [H, K, b]: before the previous chunk, before the current one, and so far."""

    previous: torch.Tensor
    chunk: torch.Tensor
    running: torch.Tensor


def enter(
    plan: Plan, fixed: Fixed, weights: Weights, x: torch.Tensor, tops: Tops, a: int, b: int
) -> tuple[Inputs, Tops, Entered]:
    """The segment of columns a .. b-1 of x [b, T, C], ready in tiles."""
    rows = x[:, a:b].flatten(0, 1)
    projected = (
        torch.mm(weights.projections, rows.T).to(tops.running.dtype).view(3, plan.heads, plan.width, plan.batch, b - a)
    )
    queries, keys, values = projected
    normalised = None
    if fixed.normalize_k:
        normalised = keys.clone(), keys.norm(dim=1, keepdim=True)
        keys = keys / normalised[1].clamp(min=1e-8)
    if fixed.key_rotation is not None:
        keys = turn_halves(keys, _columns(fixed.key_rotation, a, b), 1)
    logits = keys.new_empty(plan.heads, plan.slots, plan.batch, b - a + 1)
    logits[..., 0] = tops.running
    met = torch.bmm(weights.write_keys, keys.flatten(2)).view(plan.heads, plan.slots, plan.batch, b - a)
    if weights.recency is None:
        logits[..., 1:] = met
    else:
        torch.add(met, (weights.recency.unsqueeze(1) * _times(a, b, met))[:, None, None], out=logits[..., 1:])
    if fixed.valid is not None:
        logits[..., 1:].masked_fill_(~fixed.valid[:, a:b], -torch.inf)
    running, records = logits.cummax(dim=-1)
    columns, after = _chunk_tops(plan, running, tops, a, b)
    tiles = (
        to_tiles(plan, logits[..., 1:], -torch.inf),
        to_tiles(plan, running[..., 1:], torch.inf),  # exp(Mp - inf) = 0: what fills a tile reads nothing
        to_tiles(plan, queries),
        to_tiles(plan, values),
    )
    first, end = a // plan.tile, -(-b // plan.tile)
    besides = Given(
        a % plan.chunk == 0,
        None if fixed.slotspace_rotation is None else Turn(*(table[first:end] for table in fixed.slotspace_rotation)),
        _kept(plan, fixed.valid, met, a, b),
        None if fixed.dropout is None else to_tiles(plan, fixed.dropout[..., a:b]),
        fixed.valid is not None,
    )
    tops_by_group = [top.transpose(1, 2).reshape(plan.groups, plan.slots) for top in columns]
    # Without rotation or norm the keys are a view that would hold all three projections in memory.
    met_keys = keys if keys._base is None else keys.clone()
    return Inputs(*tiles, tops_by_group, besides), after, Entered(met_keys, records, normalised)


class Left(NamedTuple):
    """Gradients on the way out: of the segment's input rows [b S, C], of the weights, and of the maxima before the segment."""

    rows: torch.Tensor
    weights: Weights
    tops: Tops


def leave(
    plan: Plan,
    fixed: Fixed,
    weights: Weights,
    x: torch.Tensor,
    entered: Entered,
    found: Gradients,
    d_tops: Tops,
    a: int,
    b: int,
) -> Left:
    """Back from the gradients of a segment's inputs in tiles, and of the maxima after it."""
    shape = (plan.heads, plan.slots, plan.batch, b - a)
    d_projected = entered.keys.new_empty(3, *entered.keys.shape)
    d_queries, d_keys, d_values = d_projected
    from_tiles(plan, found.queries, d_queries)
    from_tiles(plan, found.values, d_values)
    d_running = found.running.new_empty(*shape[:-1], b - a + 1)
    from_tiles(plan, found.running, d_running[..., 1:])
    earlier = _chunk_tops_backward(plan, found.tops, d_tops, d_running, a, b)
    d_logits = torch.empty_like(d_running)
    d_logits[..., 0] = 0
    from_tiles(plan, found.logits, d_logits[..., 1:])
    d_logits.scatter_add_(-1, entered.records, d_running)
    d_met = d_logits[..., 1:]
    d_recency = None if weights.recency is None else (d_met.sum((1, 2)) * _times(a, b, d_met)).sum(-1)
    flat = d_met.flatten(2)
    d_write_keys = torch.bmm(flat, entered.keys.flatten(2).transpose(1, 2))
    d_turned = torch.bmm(weights.write_keys.transpose(1, 2), flat).view_as(d_keys)
    if fixed.key_rotation is not None:
        d_turned = turn_halves_back(d_turned, _columns(fixed.key_rotation, a, b), 1)
    if entered.normalised is not None:
        d_turned = _through_norm(*entered.normalised, d_turned)
    d_keys.copy_(d_turned)
    rows = x[:, a:b].flatten(0, 1)
    flat_projected = d_projected.view(-1, rows.shape[0]).to(weights.projections.dtype)
    d_rows = torch.mm(flat_projected.T, weights.projections)
    d_projections = torch.mm(flat_projected, rows)
    return Left(
        d_rows,
        Weights(d_projections, d_write_keys, d_recency),
        earlier._replace(running=earlier.running + d_logits[..., 0]),
    )


def _through_norm(keys: torch.Tensor, norms: torch.Tensor, d_unit: torch.Tensor) -> torch.Tensor:
    """Back through k / max(|k|, 1e-8)."""
    floored = norms.clamp(min=1e-8)
    along = (d_unit * keys).sum(1, keepdim=True) / (floored * floored * floored)
    return d_unit / floored - torch.where(norms > 1e-8, along, 0.0) * keys


def _columns(rotation: Turn, a: int, b: int) -> Turn:
    return Turn(*(table[..., a:b] for table in rotation))


def _times(a: int, b: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(a, b, device=like.device, dtype=like.dtype)


def _chunk_tops(plan: Plan, running: torch.Tensor, tops: Tops, a: int, b: int) -> tuple[list[torch.Tensor], Tops]:
    """Mp before the first chunk's fold, then of every chunk in the segment; and the maxima after it. Column 0 of `running` stands before a."""
    begins = _begins(plan, a, b)
    columns = [tops.chunk, tops.running] if a % plan.chunk == 0 else [tops.previous, tops.chunk]
    columns += [running[..., begin - a] for begin in begins]
    return columns, Tops(columns[-2], columns[-1], running[..., -1])


def _chunk_tops_backward(
    plan: Plan, found: list[torch.Tensor], after: Tops, d_running: torch.Tensor, a: int, b: int
) -> Tops:
    """Gradients of the maxima before the segment; those of maxima within it go into `d_running`, whose column 0 is the one just before."""
    columns = [gradient.view(plan.heads, plan.batch, plan.slots).transpose(1, 2) for gradient in found]
    columns[-2], columns[-1] = columns[-2] + after.previous, columns[-1] + after.chunk
    d_running[..., 0] = 0
    d_running[..., -1] += after.running
    for begin, gradient in zip(_begins(plan, a, b), columns[2:], strict=True):
        d_running[..., begin - a] += gradient
    nothing = torch.zeros_like(columns[0])
    if a % plan.chunk == 0:
        return Tops(nothing, columns[0], columns[1])
    return Tops(columns[0], columns[1], nothing)


def _begins(plan: Plan, a: int, b: int) -> range:
    """First columns of the chunks that begin within a segment, after its own first column."""
    return range((a // plan.chunk + 1) * plan.chunk, b, plan.chunk) if plan.chunk < b else range(0)


def _kept(plan: Plan, valid: torch.Tensor | None, like: torch.Tensor, a: int, b: int) -> torch.Tensor | None:
    """1 for valid tokens, 0 for masked ones and what fills a ragged tile, [G n, 1, L]; None if all are valid."""
    if valid is None and (b - a) % plan.tile == 0:
        return None
    here = like.new_ones(plan.batch, b - a) if valid is None else valid[:, a:b].to(like.dtype)
    return to_tiles(plan, here.expand(plan.heads, 1, -1, -1))
