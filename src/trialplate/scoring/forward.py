"""Runs a plan: batches through the model, the output head on the wanted positions only, logits in slices to a sink.

When a device runs out of memory, the batch is halved and so is the budget of all that follow; a batch of one row that does not fit is an error.
Contexts are shared only by a model that was seen to give the same logits when they are: packing relies on explicit attention masks and positions,
and a model that ignores either would answer wrongly without any error."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch

from trialplate.scoring.plan import Batch, Query, Row, make_plan, shares_a_context
from trialplate.scoring.sinks import ScoringError, Sink
from trialplate.scoring.surface import ScorableModel

# Positions a batch when nobody says otherwise. On a processor larger batches leave its caches; on an accelerator they fill it.
CPU_TOKENS, ACCELERATOR_TOKENS = 1024, 8192
# Logits held at once, in floats. Smaller blocks read the whole head for a few positions, larger ones gain nothing.
HEAD_FLOATS = 8_000_000
# Packed rows may differ from plain ones by this share of what a missing mask would change.
_PROBE_TOLERANCE = 0.02


class Forward:
    """Runs queries on one model. `token_budget` is the number of positions a batch may have, padding included; it shrinks when memory runs out."""

    def __init__(self, model: ScorableModel, token_budget: int | None) -> None:
        if token_budget is None:
            token_budget = CPU_TOKENS if model.device.type == "cpu" else ACCELERATOR_TOKENS
        if token_budget < 1:
            raise ValueError(f"token_budget must be at least 1 position a batch, got {token_budget}")
        self.model, self.token_budget = model, token_budget
        self._shares_contexts: bool | None = None

    def run(self, queries: Sequence[Query], sink: Sink, report: Callable[[int], None], share_contexts: bool) -> None:
        """Fill every slot of the sink; `report` is told how many queries each finished batch answered."""
        plan = make_plan(
            queries,
            token_budget=self.token_budget,
            row_limit=self.model.max_length,
            share_contexts=share_contexts and shares_a_context(queries) and self.shares_contexts(),
        )
        waiting = deque(plan)
        while waiting:
            batch = waiting.popleft()
            if batch.n_positions > self.token_budget and len(batch.rows) > 1:
                waiting.extendleft(reversed(batch.split()))
                continue
            try:
                run_batch(self.model, batch, sink)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self.shrink(batch.n_positions, len(batch.rows), error)
                waiting.appendleft(batch)
            else:
                report(batch.n_queries)

    def shrink(self, n_positions: int, n_rows: int, error: RuntimeError) -> None:
        """Halve the budget below a batch that did not fit. Raises ScoringError for a single row."""
        if n_rows == 1:
            raise ScoringError(
                f"{self.model.label}: one row of {n_positions} tokens does not fit the memory of {self.model.device}: {error}. Shorten the texts, or choose a narrower --dtype or another --device."
            ) from error
        self.token_budget = max(1, min(self.token_budget, n_positions) // 2)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def shares_contexts(self) -> bool:
        """Whether this model can be given packed rows; found out once, on short made-up ids."""
        if self._shares_contexts is None:
            self._shares_contexts = packing_is_exact(self.model)
        return self._shares_contexts


@torch.inference_mode()
def run_batch(model: ScorableModel, batch: Batch, sink: Sink) -> None:
    """One batch through trunk and head."""
    device = model.device
    reads = sorted((row, column, slot) for row, parts in enumerate(batch.rows) for column, slot in parts.reads)
    wanted = list(dict.fromkeys((row, column) for row, column, _ in reads))
    place = {cell: i for i, cell in enumerate(wanted)}
    position = torch.tensor([place[row, column] for row, column, _ in reads], device=device)
    slots = torch.tensor([slot for _, _, slot in reads], device=device)
    rows, columns = torch.tensor(wanted, device=device).T
    outputs = _outputs(model, batch)[rows, columns]  # [p, d], or [p, v] where the head cannot be split off
    step = max(1, HEAD_FLOATS // model.vocab_rows)
    ends = torch.searchsorted(position, torch.arange(step, len(wanted) + step, step, device=device)).tolist()
    begin = 0
    for k, end in enumerate(ends):
        part = outputs[k * step : (k + 1) * step]
        sink.take(model.head(part) if model.splits_head else part, position[begin:end] - k * step, slots[begin:end])
        begin = end


def _outputs(model: ScorableModel, batch: Batch) -> torch.Tensor:
    ids = _pad([row.ids for row in batch.rows], batch.width).to(model.device)
    # A causal model does not look at what follows, so padding on the right needs no mask, and plain rows get none.
    mask, positions = _packed_inputs(batch, model) if batch.is_packed else (None, None)
    return (model.hidden if model.splits_head else model.logits)(ids, mask, positions)


def _packed_inputs(batch: Batch, model: ScorableModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention mask [b, 1, s, s], 0 where a query position sees a key position and very negative elsewhere, and position ids [b, s]."""
    owners, positions = zip(*(_layout(row, batch.width) for row in batch.rows), strict=True)
    owner = torch.tensor(owners, device=model.device)  # [b, s]: 0 = context, k = tail k, -1 = padding
    order = torch.arange(batch.width, device=model.device)
    is_seen = (order[:, None] >= order) & ((owner[:, None] == 0) | (owner[:, None] == owner[:, :, None]))
    mask = torch.zeros(is_seen.shape, dtype=model.dtype, device=model.device)
    mask.masked_fill_(~is_seen, torch.finfo(model.dtype).min)
    return mask[:, None], torch.tensor(positions, device=model.device)


def _layout(row: Row, width: int) -> tuple[list[int], list[int]]:
    """For each column: the tail it belongs to, and its position in its own text."""
    n_context = row.tails[0]
    owner, positions = [0] * n_context, list(range(n_context))
    for k, (start, end) in enumerate(zip(row.tails, [*row.tails[1:], len(row.ids)], strict=True), start=1):
        owner += [k] * (end - start)
        positions += range(n_context, n_context + end - start)
    n_padding = width - len(row.ids)
    return owner + [-1] * n_padding, positions + [0] * n_padding


def _pad(rows: Sequence[tuple[int, ...]], width: int) -> torch.Tensor:
    """Rows of ids [b, s], filled up with id 0 on the right."""
    return torch.tensor([row + (0,) * (width - len(row)) for row in rows])


@torch.inference_mode()
def packing_is_exact(model: ScorableModel) -> bool:
    """Whether packed rows give this model's own logits, judged against what they give when mask and positions are left out."""
    ids = [i % model.vocab_rows for i in range(3, 25, 2)]
    context, tails = tuple(ids[:5]), (tuple(ids[5:8]), tuple(ids[8:11]))
    if model.max_length < len(ids):
        return False
    packed = Batch((Row(context + tails[0] + tails[1], (), 0, (5, 8)),))
    plain = torch.cat([model.logits(_pad([context + tail], 8).to(model.device))[0, 5:] for tail in tails]).float()
    loose = model.logits(_pad([packed.rows[0].ids], 11).to(model.device))[0, 5:].float()
    try:
        mask, positions = _packed_inputs(packed, model)
        ours = model.logits(_pad([packed.rows[0].ids], 11).to(model.device), mask, positions)[0, 5:].float()
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False  # the model takes no masks of this shape
    return bool((ours - plain).abs().max() <= _PROBE_TOLERANCE * (loose - plain).abs().max())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory ran out: its own class on CUDA, a text on other devices."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
