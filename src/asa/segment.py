"""One segment of the tiled form: head outputs from logits, queries and values, and the way back. Written out by hand because the chain of
small products is bound by memory: every tensor here is formed once, written where it is read, and kept for the way back.

Within a tile, with A = exp(w - Mx) and rho = exp(Mp - Mx) [K, L], D = sums of A + rho D0, X = [V | N_in | N_0] [d, L + 2K]:

    [P; C_in; C_0] = X^T Q          content = (A triu(P) + C_in + rho C_0) / D          r = softmax((by_key + g content) / temperature)
    W = r + gate e                  Y = [triu(A^T W/D); W/D; rho W/D]                   output = X Y                     [d, L]

and the refined weights e from r: features phi(rope(maps r)) of keys and queries, scores = triu(keys^T queries),
average = (R scores + S queries) / (its last row) with R = [r; 1], S = sums of R keys^T over earlier tiles, e = tanh(out average).
In the backward half d_x is the gradient of a loss with respect to x. Derivatives worth a word: dD = -(dcontent content + d(W/D) W/D) / D;
phi' = min(phi, 1) for phi = elu + 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from asa.rotary import Turn, turn_halves, turn_halves_back
from asa.scan import FLOOR, finite
from asa.tiling import Plan


class Parameters(NamedTuple):
    """Small tensors of a layer. `read_keys` [H, K, d] with scale. `content` scalar: gamma over sqrt(d) (None without content read). With slotspace: `maps` [2M, K] to key
    and query features (keys first; in each the even rotary channels first), `averages` [M, K] (None unless dropout stands between it and
    `out`), `out` [K, M], or [K, K] with `averages` multiplied in, and `gate` scalar."""

    read_keys: torch.Tensor
    content: torch.Tensor | None
    maps: torch.Tensor | None
    averages: torch.Tensor | None
    out: torch.Tensor | None
    gate: torch.Tensor | None


class Carried(NamedTuple):
    """What a segment hands to the next: sums carried into the chunk and of the chunk so far ([G, d, K] and their weights [G, K]), and
    slotspace sums [G, K + 1, M]."""

    num: torch.Tensor
    den: torch.Tensor
    in_num: torch.Tensor
    in_den: torch.Tensor
    slotspace: torch.Tensor


class Inputs(NamedTuple):
    """A segment in tiles: w, Mx [G n, K, L], queries and values [G n, d, L]; `tops` is Mp of each chunk in it, [G, K], the first entry
    standing before: [Mp of the carried sums, Mp of chunk 0, Mp of chunk 1, …]."""

    logits: torch.Tensor
    running: torch.Tensor
    queries: torch.Tensor
    values: torch.Tensor
    tops: list[torch.Tensor]
    fixed: Given


class Given(NamedTuple):
    """What a segment has besides, without gradient."""

    begins_chunk: bool
    rotation: Turn | None  # tables [n, 1, M/2, L]
    kept: torch.Tensor | None  # [G n, 1, L], 1 = valid token
    dropout: torch.Tensor | None  # [G n, M, L]
    masked: bool  # whether a slot may be unwritten at some token: its maximum is then -inf


@dataclass(slots=True)
class Kept:
    """What the way back needs of the way forth."""

    queries: torch.Tensor
    weights: torch.Tensor
    shrink: torch.Tensor
    inverse: torch.Tensor
    values_and_states: torch.Tensor
    written: Written
    products: torch.Tensor | None
    content: torch.Tensor | None
    reads: torch.Tensor
    mixed: torch.Tensor
    slotspace: KeptSlotspace | None


@dataclass(slots=True)
class Written:
    """Of the write: for each chunk what was carried before it ([G, d, K] and [G, K]) and its fold [G, K], and at its end what it had carried
    and its own sums; the carried weights D0 [G n, K, 1]."""

    num: list[torch.Tensor]
    den: list[torch.Tensor]
    folds: list[torch.Tensor]
    ends: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]
    den_per_tile: torch.Tensor


@dataclass(slots=True)
class KeptSlotspace:
    """The same for slotspace."""

    keys: torch.Tensor
    rows_and_sums: torch.Tensor
    scores_and_queries: torch.Tensor
    average: torch.Tensor
    total: torch.Tensor
    dropped: torch.Tensor | None
    refined: torch.Tensor


def chunk_tiles(plan: Plan, tiles: int) -> list[tuple[int, int]]:
    """First tile and end of each chunk in a segment of so many tiles."""
    per = tiles if plan.chunk >= tiles * plan.tile else plan.chunk // plan.tile
    return [(first, min(first + per, tiles)) for first in range(0, tiles, per)]


def forward(plan: Plan, given: Inputs, state: Carried, small: Parameters) -> tuple[torch.Tensor, Carried, Kept]:
    """Head outputs [G n, d, L], the sums after the segment, and what `backward` needs."""
    K, L = plan.slots, plan.tile
    bound = finite(given.running) if given.fixed.masked else given.running
    weights = torch.sub(given.logits, bound).exp_()
    shrink, folds = _shrink(plan, given, bound)
    states, after, written, inverse = _write(plan, given, weights, shrink, folds, state)
    causal = weights.new_ones(L, L).triu_()
    products = content = None
    by_key = torch.matmul(small.read_keys.unsqueeze(1), given.queries.view(plan.heads, -1, plan.width, L)).view_as(
        weights
    )
    reads = by_key
    if small.content is not None:
        products = torch.bmm(states.transpose(1, 2), given.queries)  # [G n, L + 2K, L]
        products[:, :L].mul_(causal)
        content = (
            torch.bmm(weights, products[:, :L])
            .add_(products[:, L : L + K])
            .addcmul_(shrink, products[:, L + K :])
            .mul_(inverse)
        )
        reads = by_key.addcmul_(content, small.content)
    if plan.read_temperature != 1:
        reads = reads / plan.read_temperature
    reads = torch.softmax(reads, dim=1)
    slotspace, sums, total = None, state.slotspace, reads
    if small.maps is not None and small.gate is not None:
        slotspace, sums = _refine(plan, given.fixed, reads, state.slotspace, small, causal)
        total = torch.addcmul(reads, slotspace.refined, small.gate)
    mixed = weights.new_empty(weights.shape[0], L + 2 * K, L)
    scaled = torch.mul(total, inverse, out=mixed[:, L : L + K])
    torch.mul(scaled, shrink, out=mixed[:, L + K :])
    torch.mul(torch.bmm(weights.transpose(1, 2), scaled), causal, out=mixed[:, :L])
    output = torch.bmm(states, mixed)
    kept = Kept(given.queries, weights, shrink, inverse, states, written, products, content, reads, mixed, slotspace)
    return output, after._replace(slotspace=sums), kept


def _shrink(plan: Plan, given: Inputs, bound: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """rho [G n, K, L], and for each chunk the factor [G, K] that brings what was carried before to its Mp."""
    tiles = bound.shape[0] // plan.groups
    spans = chunk_tiles(plan, tiles)
    per_tile = torch.stack(
        [top for top, (first, end) in zip(given.tops[1:], spans, strict=True) for _ in range(first, end)], dim=1
    )
    shrink = per_tile.view(-1, plan.slots, 1).sub(bound).exp_()
    folds = [torch.exp(before - finite(top)) for before, top in zip(given.tops[:-1], given.tops[1:], strict=True)]
    return shrink, folds


def _write(
    plan: Plan, given: Inputs, weights: torch.Tensor, shrink: torch.Tensor, folds: list[torch.Tensor], state: Carried
) -> tuple[torch.Tensor, Carried, Written, torch.Tensor]:
    """X [G n, d, L + 2K], the sums after, what was carried into each chunk before folding, and 1/D [G n, K, L]."""
    K, L, d, G = plan.slots, plan.tile, plan.width, plan.groups
    tiles = weights.shape[0] // G
    cumulated = weights.cumsum(-1)
    sums_num = torch.bmm(given.values, weights.transpose(1, 2)).view(G, tiles, d, K)
    sums_den = cumulated[..., -1].view(G, tiles, K)
    states = weights.new_empty(G * tiles, d, L + 2 * K)
    states[..., :L].copy_(given.values)
    before = states.view(G, tiles, d, L + 2 * K)
    before_den = weights.new_empty(2, G, tiles, K)
    num, den, in_num, in_den, _ = state
    carried, carried_den, ends = [], [], []
    for index, (first, end) in enumerate(chunk_tiles(plan, tiles)):
        carried.append(num)
        carried_den.append(den)
        if index > 0 or given.fixed.begins_chunk:
            num, den = torch.addcmul(in_num, num, folds[index].unsqueeze(1)), torch.addcmul(in_den, den, folds[index])
            in_num, in_den = torch.zeros_like(in_num), torch.zeros_like(in_den)
        before[:, first:end, :, L + K :] = num.unsqueeze(1)
        before_den[1, :, first:end] = den.unsqueeze(1)
        in_num = _running(sums_num[:, first:end], in_num, before[:, first:end, :, L : L + K])
        in_den = _running(sums_den[:, first:end], in_den, before_den[0, :, first:end])
        ends.append((num, den, in_num, in_den))
    den_in, den_carried = before_den.view(2, G * tiles, K, 1)
    total = cumulated.add_(den_in).addcmul_(shrink, den_carried)
    inverse = total.clamp_(min=FLOOR).reciprocal_()
    return (
        states,
        Carried(num, den, in_num, in_den, state.slotspace),
        Written(carried, carried_den, folds, ends, den_carried),
        inverse,
    )


def _refine(
    plan: Plan, given: Given, reads: torch.Tensor, sums: torch.Tensor, small: Parameters, causal: torch.Tensor
) -> tuple[KeptSlotspace, torch.Tensor]:
    """The refined weights, and the slotspace sums after the segment. See `asa.slotspace` for the mathematics."""
    assert small.maps is not None
    assert small.out is not None
    K, L, M, G = plan.slots, plan.tile, plan.wide, plan.groups
    count = reads.shape[0]
    tiles = count // G
    rows_and_sums = reads.new_empty(count, K + 1, L + M)
    rows = rows_and_sums[..., :L]
    rows[:, :K] = reads if given.kept is None else reads * given.kept
    rows[:, K] = 1
    source = rows[:, :K] if plan.masks_before_features and given.kept is not None else reads
    mapped = torch.matmul(small.maps, source)  # [G n, 2M, L]
    if given.rotation is not None:
        mapped = turn_halves(_by_feature(plan, mapped), given.rotation, 3).view_as(mapped)
    rising = mapped.clamp(max=0).exp_()
    mapped.clamp_(min=0)
    scores_and_queries = reads.new_empty(count, L + M, L)
    keys = torch.add(rising[:, :M], mapped[:, :M])
    queries = torch.add(rising[:, M:], mapped[:, M:], out=scores_and_queries[:, L:])
    if given.kept is not None and not plan.masks_before_features:
        keys.mul_(given.kept)
        queries.mul_(given.kept)
    torch.mul(torch.bmm(keys.transpose(1, 2), queries), causal, out=scores_and_queries[:, :L])
    added = torch.bmm(rows, keys.transpose(1, 2)).view(G, tiles, K + 1, M)
    before = rows_and_sums.view(G, tiles, K + 1, L + M)[..., L:]
    sums = _running(added, sums, before)
    found = torch.bmm(rows_and_sums, scores_and_queries)
    total = found[:, K:].clamp(min=FLOOR)
    average = found[:, :K].div(total)
    dropped = None
    if small.averages is not None and given.dropout is not None:
        dropped = torch.matmul(small.averages, average).mul_(given.dropout)
    refined = torch.matmul(small.out, average if dropped is None else dropped)
    refined = refined.tanh_() if plan.signed else torch.softmax(refined, dim=1)
    return KeptSlotspace(keys, rows_and_sums, scores_and_queries, average, total, dropped, refined), sums


def _by_feature(plan: Plan, mapped: torch.Tensor) -> torch.Tensor:
    """[G n, 2M, L] -> [G, n, keys or queries, M, L]."""
    return mapped.view(plan.groups, -1, 2, plan.wide, plan.tile)


def _running(added: torch.Tensor, start: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Sums over tiles (axis 1) of what each adds to `start`: those before each tile are written into `before`, the last is returned."""
    sums = added.cumsum(1).add_(start.unsqueeze(1))
    before[:, 0] = start
    before[:, 1:] = sums[:, :-1]
    return sums[:, -1]


def _running_backward(d_before: torch.Tensor, d_last: torch.Tensor, d_added: torch.Tensor) -> torch.Tensor:
    """Back through `_running`: the gradient of what each tile added is written into `d_added`, that of the start is returned."""
    gathered = d_before.flip(1).cumsum(1).flip(1).add_(d_last.unsqueeze(1))
    d_added[:, :-1] = gathered[:, 1:]
    d_added[:, -1] = d_last
    return gathered[:, 0]


class Gradients(NamedTuple):
    """Of a segment's inputs, in tiles; of Mp of each chunk with the one before first, [G, K]; of the sums before; and of the small tensors."""

    logits: torch.Tensor
    running: torch.Tensor
    queries: torch.Tensor
    values: torch.Tensor
    tops: list[torch.Tensor]
    state: Carried
    small: Parameters


def backward(
    plan: Plan, given: Given, kept: Kept, small: Parameters, d_output: torch.Tensor, d_after: Carried
) -> Gradients:
    """Gradients of a segment from those of its outputs [G n, d, L] and of the sums after it."""
    K, L = plan.slots, plan.tile
    causal = kept.weights.new_ones(L, L).triu_()
    d_mixed = torch.bmm(kept.values_and_states.transpose(1, 2), d_output)
    d_states = torch.bmm(d_output, kept.mixed.transpose(1, 2))
    d_scores, d_scaled, d_shrunk = d_mixed[:, :L].mul_(causal), d_mixed[:, L : L + K], d_mixed[:, L + K :]
    scaled = kept.mixed[:, L : L + K]
    d_shrink = d_shrunk * scaled
    d_scaled = torch.addcmul(d_scaled, d_shrunk, kept.shrink).baddbmm_(kept.weights, d_scores)
    d_weights = torch.bmm(scaled, d_scores.transpose(1, 2))
    d_total = d_scaled * kept.inverse  # of W = r + gate e
    d_den = d_scaled.mul_(scaled)  # becomes -dD D, term by term
    d_reads, d_sums, d_small = _refine_backward(plan, given, kept, small, d_total, d_after.slotspace, causal)
    d_logits = d_reads.mul_(kept.reads)
    d_logits.addcmul_(kept.reads, d_logits.sum(1, keepdim=True), value=-1)
    if plan.read_temperature != 1:
        d_logits /= plan.read_temperature
    by_head = d_logits.view(plan.heads, -1, K, L)
    d_queries = torch.matmul(small.read_keys.transpose(1, 2).unsqueeze(1), by_head).view_as(kept.queries)
    d_read_keys = torch.matmul(by_head, kept.queries.view(plan.heads, -1, plan.width, L).transpose(2, 3)).sum(1)
    d_small = d_small._replace(read_keys=d_read_keys)
    if small.content is not None and kept.content is not None and kept.products is not None:
        d_small = d_small._replace(content=(d_logits * kept.content).sum())
        d_content = d_logits * small.content
        d_den.addcmul_(d_content, kept.content)
        d_content.mul_(kept.inverse)
        d_products = torch.empty_like(kept.products)
        torch.mul(torch.bmm(kept.weights.transpose(1, 2), d_content), causal, out=d_products[:, :L])
        d_products[:, L : L + K] = d_content
        torch.mul(d_content, kept.shrink, out=d_products[:, L + K :])
        d_shrink.addcmul_(d_content, kept.products[:, L + K :])
        d_weights.baddbmm_(d_content, kept.products[:, :L].transpose(1, 2))
        d_states.baddbmm_(kept.queries, d_products.transpose(1, 2))
        d_queries.baddbmm_(kept.values_and_states, d_products)
    d_den.mul_(kept.inverse).neg_()
    d_values, state, d_folds = _write_backward(plan, given, kept, d_states, d_den, d_weights, d_shrink, d_after)
    d_w, d_running, d_tops = _through_exponentials(plan, kept, d_weights, d_shrink, d_folds)
    return Gradients(d_w, d_running, d_queries, d_values, d_tops, state._replace(slotspace=d_sums), d_small)


def _through_exponentials(
    plan: Plan, kept: Kept, d_weights: torch.Tensor, d_shrink: torch.Tensor, d_folds: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Gradients of w, Mx and each Mp through A = exp(w - Mx), rho = exp(Mp - Mx) and the folds exp(Mp' - Mp)."""
    d_w = d_weights.mul_(kept.weights)
    d_rho = d_shrink.mul_(kept.shrink)
    d_running = (d_w + d_rho).neg_()
    tiles = d_w.shape[0] // plan.groups
    by_tile = d_rho.sum(-1).view(plan.groups, tiles, plan.slots)
    d_tops = [
        torch.zeros_like(by_tile[:, 0]),
        *(by_tile[:, first:end].sum(1) for first, end in chunk_tiles(plan, tiles)),
    ]
    for index, d_fold in enumerate(d_folds):
        moved = d_fold * kept.written.folds[index]
        d_tops[index] = d_tops[index] + moved
        d_tops[index + 1] = d_tops[index + 1] - moved
    return d_w, d_running, d_tops


def _write_backward(
    plan: Plan,
    given: Given,
    kept: Kept,
    d_states: torch.Tensor,
    d_den: torch.Tensor,
    d_weights: torch.Tensor,
    d_shrink: torch.Tensor,
    d_after: Carried,
) -> tuple[torch.Tensor, Carried, list[torch.Tensor]]:
    """Back through the sums over tiles and chunks: gradients of the values, of the sums before and of the folds; adds to d_weights and d_shrink."""
    K, L, G = plan.slots, plan.tile, plan.groups
    tiles = d_states.shape[0] // G
    d_before = d_states.view(G, tiles, plan.width, L + 2 * K)
    per_tile = d_den.sum(-1).view(G, tiles, K)
    shrunk = torch.mul(d_den, kept.shrink).sum(-1).view(G, tiles, K)
    d_sums_num = d_states.new_empty(G, tiles, plan.width, K)
    d_sums_den = d_states.new_empty(G, tiles, K)
    d_num, d_den_carried, d_in_num, d_in_den, _ = d_after
    written = kept.written
    d_folds = [torch.zeros_like(fold) for fold in written.folds]
    for index, (first, end) in reversed(list(enumerate(chunk_tiles(plan, tiles)))):
        d_in_num = _running_backward(d_before[:, first:end, :, L : L + K], d_in_num, d_sums_num[:, first:end])
        d_in_den = _running_backward(per_tile[:, first:end], d_in_den, d_sums_den[:, first:end])
        d_num = d_num + d_before[:, first:end, :, L + K :].sum(1)
        d_den_carried = d_den_carried + shrunk[:, first:end].sum(1)
        if index > 0 or given.begins_chunk:
            fold = written.folds[index]
            d_folds[index] = (d_num * written.num[index]).sum(1) + d_den_carried * written.den[index]
            d_in_num, d_in_den = d_num, d_den_carried
            d_num, d_den_carried = d_num * fold.unsqueeze(1), d_den_carried * fold
    d_shrink.addcmul_(d_den, written.den_per_tile)
    d_sums_num = d_sums_num.view(G * tiles, plan.width, K)
    d_values = torch.baddbmm(d_states[..., :L], d_sums_num, kept.weights)
    d_weights.baddbmm_(d_sums_num.transpose(1, 2), kept.values_and_states[..., :L])
    # D and the tile's sum are both running sums of A: the gradient of A at s gathers those at s and after.
    d_den[..., -1] += d_sums_den.view(G * tiles, K)
    d_weights.add_(d_den.sum(-1, keepdim=True) - d_den.cumsum(-1)).add_(d_den)
    return d_values, Carried(d_num, d_den_carried, d_in_num, d_in_den, d_after.slotspace), d_folds


def _refine_backward(
    plan: Plan,
    given: Given,
    kept: Kept,
    small: Parameters,
    d_total: torch.Tensor,
    d_sums: torch.Tensor,
    causal: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, Parameters]:
    """Gradients of the read weights, of the slotspace sums before the segment, and of the small tensors of slotspace."""
    found = kept.slotspace
    if found is None or small.maps is None or small.out is None or small.gate is None:
        return d_total, d_sums, Parameters(small.read_keys, None, None, None, None, None)
    K, L = plan.slots, plan.tile
    d_gate = (d_total * found.refined).sum()
    d_refined = d_total * small.gate
    if plan.signed:
        d_before = torch.ops.aten.tanh_backward(d_refined, found.refined)
    else:
        d_before = torch.ops.aten._softmax_backward_data(d_refined, found.refined, 1, d_refined.dtype)
    d_average, d_out, d_averages = _out_backward(given, found, small, d_before)
    d_found = d_average.new_empty(d_average.shape[0], K + 1, L)
    top = torch.div(d_average, found.total, out=d_found[:, :K])
    d_found[:, K] = (top * found.average).sum(1).neg_().mul_(found.total[:, 0] > FLOOR)
    d_rows_and_sums = torch.bmm(d_found, found.scores_and_queries.transpose(1, 2))
    d_scores_and_queries = torch.bmm(found.rows_and_sums.transpose(1, 2), d_found)
    d_added, d_sums = _sums_backward(plan, d_rows_and_sums, d_sums)
    d_scores = d_scores_and_queries[:, :L].mul_(causal)
    rows, queries = found.rows_and_sums[..., :L], found.scores_and_queries[:, L:]
    d_keys = torch.bmm(queries, d_scores.transpose(1, 2)).baddbmm_(d_added.transpose(1, 2), rows)
    d_queries = torch.baddbmm(d_scores_and_queries[:, L:], found.keys, d_scores)
    d_rows = torch.baddbmm(d_rows_and_sums[..., :L], d_added, found.keys)[:, :K]
    d_mapped = d_keys.new_empty(d_keys.shape[0], 2 * plan.wide, L)
    torch.mul(d_keys, found.keys.clamp(max=1), out=d_mapped[:, : plan.wide])
    torch.mul(d_queries, queries.clamp(max=1), out=d_mapped[:, plan.wide :])
    if given.rotation is not None:
        d_mapped = turn_halves_back(_by_feature(plan, d_mapped), given.rotation, 3).view_as(d_mapped)
    masks_before = plan.masks_before_features and given.kept is not None
    source = rows[:, :K] if masks_before else kept.reads
    d_maps = torch.bmm(d_mapped, source.transpose(1, 2)).sum(0)
    d_source = torch.matmul(small.maps.T, d_mapped)
    if given.kept is not None:
        d_rows = (d_rows + d_source) * given.kept if masks_before else (d_rows * given.kept).add_(d_source)
    else:
        d_rows = d_source.add_(d_rows)
    return d_rows.add_(d_total), d_sums, Parameters(small.read_keys, None, d_maps, d_averages, d_out, d_gate)


def _out_backward(
    given: Given, found: KeptSlotspace, small: Parameters, d_before: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Back through the maps behind the average: its gradient, and those of `out` and `averages`."""
    assert small.out is not None
    source = found.average if found.dropped is None else found.dropped
    d_out = torch.bmm(d_before, source.transpose(1, 2)).sum(0)
    d_source = torch.matmul(small.out.T, d_before)
    if found.dropped is None or small.averages is None or given.dropout is None:
        return d_source, d_out, None
    d_source.mul_(given.dropout)
    return torch.matmul(small.averages.T, d_source), d_out, torch.bmm(d_source, found.average.transpose(1, 2)).sum(0)


def _sums_backward(
    plan: Plan, d_rows_and_sums: torch.Tensor, d_sums: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of what each tile added to the slotspace sums, and of the sums before the segment."""
    tiles = d_rows_and_sums.shape[0] // plan.groups
    d_before = d_rows_and_sums.view(plan.groups, tiles, plan.slots + 1, -1)[..., plan.tile :]
    d_added = d_before.new_empty(d_before.shape)
    d_sums = _running_backward(d_before, d_sums, d_added)
    return d_added.flatten(0, 1), d_sums
