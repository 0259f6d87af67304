"""The plain case of the attention layer as matrix products over small tiles: softmax routing, no controls, no record.

The same numbers as `asa.functional`, faster and in less memory: nothing of size T x K x d is formed. Within a tile of L tokens of one write
chunk, with A = exp(w - Mx) [K, L], rho = exp(Mp - Mx) [K, L], D = rho D0 + (sums of A) and P = triu(V^T Q):

    content = (A P + N_in Q + rho * (N_0 Q)) / D                  [K, L]
    output  = V triu(A^T W/D) + N_in^T W/D + N_0^T (rho W/D)      [d, L],   W = read weights + gate * refined weights

N_0 is what was carried into the chunk, N_in what the chunk's earlier tiles wrote. In-chunk weights are never rescaled, so a tile may be
smaller than its chunk without changing a number. Every tensor has time last. A text is walked in segments of some tiles, small enough to
stay in the cache; a backward pass walks them in reverse and computes each again from the state at its start.

Symbols: b = batch, H = heads, G = b H, n = tiles of a segment, L = tokens of a tile, S = n L, K = slots, M = slotspace width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from asa.scan import FLOOR, finite

SMALLEST_TILE, USUAL_TILE, LARGEST_TILE = 8, 32, 128
ENDLESS = 2**40  # a chunk that reaches to the end of any text
SEGMENT_ROWS = 4096  # tokens times heads times batch: some 40 tensors of this many rows fit the second-level cache of a core or nearly


class Tensors(NamedTuple):
    """What a layer multiplies with. Rotary channels are reordered: even ones first, then odd ones, so that pairs are halves.

    write_keys [H, K, d] with scale and temperature, read_keys [H, K, d] with scale; recency [H, 1], slope times strength (None without);
    content scalar, gamma times scale (None without); maps [2M, K] to query and key features, averages [M, K] and out [K, M] behind the
    average, gate scalar (None without slotspace)."""

    write_keys: torch.Tensor
    read_keys: torch.Tensor
    recency: torch.Tensor | None
    content: torch.Tensor | None
    maps: torch.Tensor | None
    averages: torch.Tensor | None
    out: torch.Tensor | None
    gate: torch.Tensor | None


class State(NamedTuple):
    """What a segment hands to the next, rows G: `den_num` tensors hold values and their weights together, [G, K, d + 1]."""

    carried_max: torch.Tensor  # [G, K]
    carried: torch.Tensor
    max: torch.Tensor  # [G, K]
    in_chunk: torch.Tensor
    slotspace: torch.Tensor  # [G, K + 1, M]; the last row sums key features alone. Empty without slotspace


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes and switches of a call. `chunk` is a multiple of `tile`, or reaches to the end of the text."""

    batch: int
    heads: int
    slots: int
    width: int
    tile: int
    chunk: int
    segment: int
    read_temperature: float
    normalize_k: bool
    signed: bool
    masks_before_features: bool


class Positions(NamedTuple):
    """Tables over the whole text, time last: cos and sin of keys [2, d/2, T] and of slotspace [2, M/2, T] (None without rotation)."""

    cos_keys: torch.Tensor | None
    sin_keys: torch.Tensor | None
    cos_slotspace: torch.Tensor | None
    sin_slotspace: torch.Tensor | None


def empty_state(plan: Plan, tensors: Tensors, like: torch.Tensor) -> State:
    """The state before any token, in dtype and on device of `like`."""
    groups = plan.batch * plan.heads
    low = like.new_full((groups, plan.slots), -torch.inf)
    sums = like.new_zeros(groups, plan.slots, plan.width + 1)
    wide = 0 if tensors.maps is None else tensors.maps.shape[0] // 2
    return State(low, sums, low, sums, like.new_zeros(groups, plan.slots + 1, wide))


def tile_length(chunk: int, length: int) -> int | None:
    """Tokens of a tile: the divisor of the chunk that is nearest to 32; None where it has none from 8 to 128."""
    if chunk == 0 or chunk >= length:
        return min(USUAL_TILE, length)
    fitting = [size for size in range(SMALLEST_TILE, LARGEST_TILE + 1) if chunk % size == 0]
    return min(fitting, key=lambda size: abs(size - USUAL_TILE)) if fitting else None


def segment_length(tile: int, chunk: int, groups: int) -> int:
    """Tokens of a segment: whole chunks, or whole tiles of a chunk that is longer; about SEGMENT_ROWS rows over all groups."""
    wanted = max(SEGMENT_ROWS // groups, tile)
    if chunk == ENDLESS:
        return wanted // tile * tile
    if wanted >= chunk:
        return wanted // chunk * chunk
    tiles = chunk // tile
    fitting = [count for count in range(1, tiles + 1) if tiles % count == 0 and count * tile <= wanted]
    return max(fitting) * tile


def attend(
    plan: Plan, given: torch.Tensor, valid: torch.Tensor | None, tables: Positions, tensors: Tensors, state: State, dropout: torch.Tensor | None
) -> tuple[torch.Tensor, State]:
    """Head outputs [b, H d, T] of projections `given` [b, 3 H d, T] (queries, keys, values; keys with reordered channels), and the last state.

    `dropout` [b, H, M, T] multiplies slotspace averages, or is None."""
    if torch.is_grad_enabled() and given.shape[-1] > plan.segment:
        names = [name for name, value in zip(Tensors._fields, tensors, strict=True) if value is not None]
        present = [value for value in tensors if value is not None]
        output, *after = _Recomputed.apply(plan, valid, tables, dropout, names, given, *state, *present)  # type: ignore[no-untyped-call]
        return output, State(*after)
    outputs = []
    for a, b in _segments(plan, given.shape[-1]):
        output, state = _segment(plan, a, b, given, valid, tables, tensors, state, dropout)
        outputs.append(output)
    return torch.cat(outputs, dim=-1), state


class _Recomputed(torch.autograd.Function):
    """Segment after segment; the backward pass computes each again, so that only states at their starts are kept."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, valid: Any, tables: Positions, dropout: Any, names: Sequence[str], given: torch.Tensor, *rest: torch.Tensor) -> Any:
        state, tensors = State(*rest[:5]), _tensors(names, rest[5:])
        output = given.new_empty(given.shape[0], given.shape[1] // 3, given.shape[2])
        starts = []
        for a, b in _segments(plan, given.shape[-1]):
            starts.extend(state)
            output[..., a:b], state = _segment(plan, a, b, given, valid, tables, tensors, state, dropout)
        ctx.settings = plan, valid, tables, dropout, names
        ctx.save_for_backward(given, *rest[5:], *starts)
        return output, *state

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor, *grad_state: torch.Tensor) -> Any:
        plan, valid, tables, dropout, names = ctx.settings
        given, *rest = ctx.saved_tensors
        parameters = [tensor.detach().requires_grad_() for tensor in rest[: len(names)]]
        starts = rest[len(names) :]
        totals = [torch.zeros_like(tensor) for tensor in parameters]
        grad_given = torch.empty_like(given)
        carried = list(grad_state)
        for index, (a, b) in reversed(list(enumerate(_segments(plan, given.shape[-1])))):
            piece = given[..., a:b].detach().requires_grad_()
            state = [tensor.detach().requires_grad_() for tensor in starts[5 * index : 5 * index + 5]]
            with torch.enable_grad():
                output, after = _segment(plan, a, b, piece, valid, tables, _tensors(names, parameters), State(*state), dropout, start=a)
            found = _gradients([output, *after], [piece, *state, *parameters], [grad_output[..., a:b], *carried])
            grad_given[..., a:b] = found[0]
            carried = found[1:6]
            for total, gradient in zip(totals, found[6:], strict=True):
                total += gradient
        return None, None, None, None, None, grad_given, *carried, *totals


def _gradients(outputs: list[torch.Tensor], inputs: list[torch.Tensor], grads: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of every input, zeros where an input played no part."""
    pairs = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if output.requires_grad]
    found = torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True, materialize_grads=True)
    return list(found)


def _tensors(names: Sequence[str], values: Sequence[torch.Tensor]) -> Tensors:
    return Tensors(**{**dict.fromkeys(Tensors._fields), **dict(zip(names, values, strict=True))})  # type: ignore[arg-type]


def _segments(plan: Plan, length: int) -> list[tuple[int, int]]:
    return [(a, min(a + plan.segment, length)) for a in range(0, length, plan.segment)]


def _segment(
    plan: Plan,
    a: int,
    b: int,
    given: torch.Tensor,
    valid: torch.Tensor | None,
    tables: Positions,
    tensors: Tensors,
    state: State,
    dropout: torch.Tensor | None,
    start: int = 0,
) -> tuple[torch.Tensor, State]:
    """Head outputs [b, H d, b - a] of tokens a .. b-1 and the state after them. `given` begins at column `start`."""
    tiles = -(-(b - a) // plan.tile)
    padding = tiles * plan.tile - (b - a)
    if padding and valid is None:
        valid = torch.ones(plan.batch, b, dtype=torch.bool, device=given.device)
    queries, keys, values = F.pad(given[..., a - start : b - start], (0, padding)).view(plan.batch, 3, plan.heads, plan.width, -1).unbind(1)
    logits = _write_logits(plan, a, b, padding, keys, valid, tables, tensors)
    weights, shrink, after_max, chunk_max = _weights(plan, a, logits, state, masked=valid is not None)
    tiled = [_to_tiles(plan, x) for x in (queries, values, weights, shrink)]
    queries, values, weights, shrink = tiled
    states, carried, in_chunk = _states(plan, a, tiles, weights, values, state, chunk_max)
    inverse = (weights.cumsum(-1) + states[:, : plan.slots, -1:] + shrink * states[:, plan.slots :, -1:]).clamp(min=FLOOR).reciprocal()
    states = states[..., :-1].contiguous()
    causal = torch.ones(plan.tile, plan.tile, dtype=weights.dtype, device=weights.device).triu()
    by_key = torch.matmul(tensors.read_keys.unsqueeze(1), queries.view(plan.batch, plan.heads, tiles, plan.width, plan.tile)).view_as(weights)
    reads = by_key
    if tensors.content is not None:
        products = torch.bmm(values.transpose(1, 2), queries) * causal
        carried_content = torch.bmm(states, queries)
        content = torch.bmm(weights, products) + carried_content[:, : plan.slots] + shrink * carried_content[:, plan.slots :]
        reads = by_key + tensors.content * (content * inverse)
    reads = torch.softmax(reads / plan.read_temperature if plan.read_temperature != 1 else reads, dim=1)
    total, slotspace = reads, state.slotspace
    if tensors.maps is not None:
        refined, slotspace = _refined(plan, a, b, padding, reads, valid, tables, tensors, state.slotspace, dropout, causal)
        total = reads + tensors.gate * refined
    scaled = total * inverse
    scores = torch.bmm(weights.transpose(1, 2), scaled) * causal
    output = torch.bmm(values, scores) + torch.bmm(states.transpose(1, 2), torch.cat([scaled, scaled * shrink], dim=1))
    output = output.view(plan.batch, plan.heads, tiles, plan.width, plan.tile).transpose(2, 3).reshape(plan.batch, plan.heads * plan.width, -1)
    return output[..., : b - a], State(chunk_max[-1], carried, after_max, in_chunk, slotspace)


def _write_logits(
    plan: Plan, a: int, b: int, padding: int, keys: torch.Tensor, valid: torch.Tensor | None, tables: Positions, tensors: Tensors
) -> torch.Tensor:
    """w [G, K, S]; masked tokens and padding -inf."""
    if plan.normalize_k:
        keys = keys / keys.norm(dim=2, keepdim=True).clamp(min=1e-8)
    if tables.cos_keys is not None and tables.sin_keys is not None:
        keys = _rotated(keys.unflatten(2, (2, -1)), tables.cos_keys[..., a : b + padding], tables.sin_keys[..., a : b + padding]).flatten(2, 3)
    logits = torch.matmul(tensors.write_keys, keys)  # [b, H, K, S]
    if tensors.recency is not None:
        logits = logits + (tensors.recency * torch.arange(a, b + padding, device=logits.device, dtype=logits.dtype)).unsqueeze(1)
    if valid is not None:
        logits = logits.masked_fill(~F.pad(valid[:, a:b], (0, padding))[:, None, None], -torch.inf)
    return logits.flatten(0, 1)


def _weights(
    plan: Plan, a: int, logits: torch.Tensor, state: State, *, masked: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """exp(w - Mx) and exp(Mp - Mx), both [G, K, S]; the maximum after the segment; Mp of each chunk in it."""
    running = torch.maximum(logits.cummax(dim=-1).values, state.max.unsqueeze(-1))
    bound = finite(running) if masked else running
    begins = _begins(plan, a, logits.shape[-1])
    # A chunk's Mp is the maximum just before it; the first one's is given unless it begins here.
    first = state.max if a % plan.chunk == 0 else state.carried_max
    chunk_max = [first, *(running[..., begin - 1] for begin in begins[1:])]
    spans = [end - begin for begin, end in zip(begins, [*begins[1:], logits.shape[-1]], strict=True)]
    carried = torch.cat([top.unsqueeze(-1).expand(-1, -1, span) for top, span in zip(chunk_max, spans, strict=True)], dim=-1) if len(spans) > 1 else first.unsqueeze(-1)
    return torch.exp(logits - bound), torch.exp(carried - bound), running[..., -1], chunk_max


def _begins(plan: Plan, a: int, span: int) -> list[int]:
    """Columns of a segment at which a chunk begins, or goes on at column 0."""
    return list(range(0, span, plan.chunk)) if plan.chunk < span else [0]


def _states(
    plan: Plan, a: int, tiles: int, weights: torch.Tensor, values: torch.Tensor, state: State, chunk_max: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Before each tile: what its chunk wrote, then what was carried into it, [G n, 2K, d + 1]; and both after the segment."""
    groups, slots = state.max.shape
    written = torch.cat([torch.bmm(weights, values.transpose(1, 2)), weights.sum(-1, keepdim=True)], dim=-1)
    written = written.view(groups, tiles, slots, -1)
    carried, in_chunk = state.carried, state.in_chunk
    per_chunk = max(plan.chunk // plan.tile, 1) if plan.chunk < tiles * plan.tile else tiles
    before: list[torch.Tensor] = []
    for index, first in enumerate(range(0, tiles, per_chunk)):
        if index > 0 or a % plan.chunk == 0:
            top = chunk_max[index]  # the maximum at this border; the carried sums stand relative to the one before
            previous = chunk_max[index - 1] if index > 0 else state.carried_max
            carried = torch.exp(previous - finite(top)).unsqueeze(-1) * carried + in_chunk
            in_chunk = torch.zeros_like(in_chunk)
        sums = written[:, first : first + per_chunk].cumsum(1) + in_chunk.unsqueeze(1)
        before.append(torch.cat([torch.cat([in_chunk.unsqueeze(1), sums[:, :-1]], dim=1), carried.unsqueeze(1).expand(-1, sums.shape[1], -1, -1)], dim=2))
        in_chunk = sums[:, -1]
    return torch.cat(before, dim=1).flatten(0, 1), carried, in_chunk


def _refined(
    plan: Plan,
    a: int,
    b: int,
    padding: int,
    reads: torch.Tensor,
    valid: torch.Tensor | None,
    tables: Positions,
    tensors: Tensors,
    state: torch.Tensor,
    dropout: torch.Tensor | None,
    causal: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Refined slot weights e [G n, K, L], and the slotspace sums after the segment. See `asa.slotspace` for the mathematics."""
    assert tensors.maps is not None and tensors.averages is not None and tensors.out is not None
    groups, tiles = state.shape[0], reads.shape[0] // state.shape[0]
    ones = reads.new_ones(reads.shape[0], 1, plan.tile)
    kept = None
    if valid is not None:
        kept = F.pad(valid[:, a:b], (0, padding)).to(reads.dtype).view(plan.batch, 1, tiles, 1, -1).expand(-1, plan.heads, -1, -1, -1).reshape(-1, 1, plan.tile)
    source = reads if kept is None or not plan.masks_before_features else reads * kept
    mapped = torch.matmul(tensors.maps, source)  # [G n, 2M, L]
    if tables.cos_slotspace is not None and tables.sin_slotspace is not None:
        cos, sin = (x[..., a : b + padding].unflatten(-1, (tiles, plan.tile)).movedim(-2, 0).unsqueeze(1) for x in (tables.cos_slotspace, tables.sin_slotspace))
        mapped = _rotated(mapped.view(groups, tiles, 2, 2, -1, plan.tile), cos, sin, axis=3).reshape_as(mapped)
    features = F.elu(mapped) + 1
    rows = torch.cat([reads, ones], dim=1)
    if kept is not None:
        rows = torch.cat([reads * kept, ones], dim=1)
        if not plan.masks_before_features:
            features = features * kept
    queries, keys = features.chunk(2, dim=1)
    scores = torch.bmm(keys.transpose(1, 2), queries) * causal
    sums = torch.bmm(rows, keys.transpose(1, 2)).view(groups, tiles, plan.slots + 1, -1).cumsum(1) + state.unsqueeze(1)
    before = torch.cat([state.unsqueeze(1), sums[:, :-1]], dim=1).flatten(0, 1)
    found = torch.bmm(rows, scores) + torch.bmm(before, queries)
    average = found[:, :-1] / found[:, -1:].clamp(min=FLOOR)
    if dropout is None:
        refined = torch.matmul(tensors.out @ tensors.averages, average)
    else:
        refined = torch.matmul(tensors.out, torch.matmul(tensors.averages, average) * _to_tiles(plan, F.pad(dropout[..., a:b], (0, padding))))
    return torch.tanh(refined) if plan.signed else torch.softmax(refined, dim=1), sums[:, -1]


def _to_tiles(plan: Plan, x: torch.Tensor) -> torch.Tensor:
    """[b, H, rows, S] or [G, rows, S] -> [G n, rows, L]."""
    return x.reshape(plan.batch * plan.heads, x.shape[-2], -1, plan.tile).transpose(1, 2).reshape(-1, x.shape[-2], plan.tile)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, axis: int = 2) -> torch.Tensor:
    """Reordered channels [..., 2, width/2, time] turned: `asa.rotary.rotate` with pairs as halves of `axis`."""
    even, odd = x.unbind(axis)
    cos_even, cos_odd = cos.unbind(-3)
    sin_even, sin_odd = sin.unbind(-3)
    return torch.stack([even * cos_even - odd * sin_even, odd * cos_odd + even * sin_odd], dim=axis)
