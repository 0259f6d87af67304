"""The plain case of the attention layer in tiles: softmax routing, no controls, no record. The same numbers as `asa.functional`, faster,
and nothing of size T x K x d is formed; see `asa.segment` for the mathematics and `asa.tiling` for the layout.

A text is walked segment by segment. For a backward pass each segment keeps what it needs, or, in texts so long that this would cost more
than `KEPT_NUMBERS`, is computed again from the sums at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from asa import segment
from asa.segment import Carried, Inputs, Kept, Parameters
from asa.tiling import Plan, from_tiles, to_tiles

KEPT_NUMBERS = 2**25  # 134 MB in float32


@dataclass(slots=True)
class Sources:
    """A whole text, time last. logits w (masked: -inf), running Mx and by_key [H, K, b, T]; queries and values [H, d, b, T]."""

    logits: torch.Tensor
    running: torch.Tensor
    by_key: torch.Tensor
    queries: torch.Tensor
    values: torch.Tensor


@dataclass(slots=True)
class Fixed:
    """What has no gradient: rotation tables in tiles (four of [all tiles, 1, M/2, L], or None), valid [b, T] or None, and the factors of
    slotspace dropout [H, M, b, T] or None."""

    rotation: tuple[torch.Tensor, ...] | None
    valid: torch.Tensor | None
    dropout: torch.Tensor | None


def attend(plan: Plan, given: Sources, fixed: Fixed, small: Parameters) -> torch.Tensor:
    """Head outputs [H, d, b, T] of a text from its beginning."""
    if torch.is_grad_enabled():
        found: torch.Tensor = _Tiled.apply(plan, fixed, given.logits, given.running, given.by_key, given.queries, given.values, *small)  # type: ignore[no-untyped-call]
        return found
    return walk(plan, given, fixed, small, empty(plan, given.logits))[0]


def empty(plan: Plan, like: torch.Tensor) -> Carried:
    """The sums before any token, in dtype and on device of `like`."""
    wide, flat = like.new_zeros(plan.groups, plan.width, plan.slots), like.new_zeros(plan.groups, plan.slots)
    return Carried(wide, flat, wide, flat, like.new_zeros(plan.groups, plan.slots + 1, plan.wide))


def walk(plan: Plan, given: Sources, fixed: Fixed, small: Parameters, state: Carried) -> tuple[torch.Tensor, Carried]:
    """Outputs and the last sums, without gradients."""
    output = torch.empty_like(given.values)
    for a, b in plan.segments(output.shape[-1]):
        found, state, _ = segment.forward(plan, _cut(plan, given, fixed, a, b), state, small)
        from_tiles(plan, found, output[..., a:b])
    return output, state


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, fixed: Fixed, *tensors: torch.Tensor) -> torch.Tensor:
        given, small = Sources(*tensors[:5]), Parameters(*tensors[5:])
        output = torch.empty_like(given.values)
        state, starts, kept = empty(plan, given.logits), [], []
        segments = plan.segments(output.shape[-1])
        keeps = output.shape[-1] * plan.groups * _numbers_per_row(plan) <= KEPT_NUMBERS
        for a, b in segments:
            inputs = _cut(plan, given, fixed, a, b)
            starts.append(state)
            found, state, intermediate = segment.forward(plan, inputs, state, small)
            from_tiles(plan, found, output[..., a:b])
            kept.append((inputs, intermediate) if keeps else None)
        ctx.save_for_backward(*tensors)
        ctx.walk = plan, fixed, starts, kept
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_output: torch.Tensor) -> Any:
        plan, fixed, starts, kept = ctx.walk
        tensors = ctx.saved_tensors
        given, small = Sources(*tensors[:5]), Parameters(*tensors[5:])
        totals = Sources(*(torch.empty_like(tensor) for tensor in tensors[:5]))
        totals.running.zero_()
        if small.content is None:
            totals.queries.zero_()
        d_small = [None if tensor is None else torch.zeros_like(tensor) for tensor in small]
        d_state = empty(plan, given.logits)
        for index, (a, b) in reversed(list(enumerate(plan.segments(d_output.shape[-1])))):
            inputs, intermediate = kept[index] or _again(plan, given, fixed, small, starts[index], a, b)
            kept[index] = None  # its memory serves the segments before
            found = segment.backward(plan, inputs, intermediate, small, to_tiles(plan, d_output[..., a:b]), d_state)
            _scatter(plan, totals, found, a, b)
            for total, gradient in zip(d_small, found.small, strict=True):
                if total is not None and gradient is not None:
                    total += gradient
            d_state = found.state
        return None, None, totals.logits, totals.running, totals.by_key, totals.queries, totals.values, *d_small


def _again(plan: Plan, given: Sources, fixed: Fixed, small: Parameters, start: Carried, a: int, b: int) -> tuple[Inputs, Kept]:
    inputs = _cut(plan, given, fixed, a, b)
    return inputs, segment.forward(plan, inputs, start, small)[2]


def _scatter(plan: Plan, totals: Sources, found: segment.Gradients, a: int, b: int) -> None:
    """A segment's gradients into those of the whole text. `running` gathers: a chunk's Mp is the maximum just before it."""
    for total, gradient in ((totals.logits, found.logits), (totals.by_key, found.by_key), (totals.queries, found.queries), (totals.values, found.values)):
        if gradient is not None:
            from_tiles(plan, gradient, total[..., a:b])
    running = torch.empty_like(totals.running[..., a:b])
    from_tiles(plan, found.running, running)
    totals.running[..., a:b] += running
    for column, gradient in zip(_top_columns(plan, a, b), found.tops, strict=True):
        if column >= 0:
            totals.running[..., column] += gradient.view(plan.heads, plan.batch, plan.slots).transpose(1, 2)


def _top_columns(plan: Plan, a: int, b: int) -> list[int]:
    """Columns of Mx that are Mp of: the sums carried into the segment's first chunk before any fold, then each chunk in it (-1: before the text)."""
    first = a // plan.chunk * plan.chunk
    begins = [first, *range(first + plan.chunk, b, plan.chunk)] if plan.chunk < b else [first]
    before = max(first - plan.chunk, 0) if a == first else first
    return [before - 1, *(begin - 1 for begin in begins)]


def _cut(plan: Plan, given: Sources, fixed: Fixed, a: int, b: int) -> Inputs:
    def tiles(x: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        return to_tiles(plan, x[..., a:b], fill)

    tops = [
        given.running[..., column].transpose(1, 2).reshape(plan.groups, plan.slots)
        if column >= 0
        else given.running.new_full((plan.groups, plan.slots), -torch.inf)
        for column in _top_columns(plan, a, b)
    ]
    first, end = a // plan.tile, -(-b // plan.tile)
    return Inputs(
        tiles(given.logits, -torch.inf),
        tiles(given.running),
        tiles(given.by_key),
        tiles(given.queries),
        tiles(given.values),
        tops,
        a % plan.chunk == 0,
        None if fixed.rotation is None else tuple(table[first:end] for table in fixed.rotation),  # type: ignore[arg-type]
        _kept(plan, fixed.valid, given.logits, a, b),
        None if fixed.dropout is None else tiles(fixed.dropout),
    )


def _kept(plan: Plan, valid: torch.Tensor | None, like: torch.Tensor, a: int, b: int) -> torch.Tensor | None:
    """1 for valid tokens, 0 for masked ones and what fills a ragged tile, [G n, 1, L]; None if all are valid."""
    if valid is None and (b - a) % plan.tile == 0:
        return None
    here = like.new_ones(plan.batch, b - a) if valid is None else valid[:, a:b].to(like.dtype)
    return to_tiles(plan, here.expand(plan.heads, 1, -1, -1))


def _numbers_per_row(plan: Plan) -> int:
    """Numbers that the way back keeps for a token of a head: about this many in float32 words."""
    per_tile = 3 * (plan.tile + 2 * plan.slots) + plan.wide * 3 + plan.tile
    return per_tile + 9 * plan.slots + 2 * plan.width
