"""Which tokens go through the model together. Pure bookkeeping: no tensors, no model; what runs a plan need not know why it looks as it does.

A query says: the model reads these ids, and the logits after each of the last `n_reads` of them are wanted. Wanted logits are numbered
through all queries in order; such a number is a slot. A plan is a list of batches of rows that together fill every slot once.

Equal work is done once: a query whose ids begin another query's ids is read off the longer row; queries that share the context before their first
wanted position can be packed into one row, the context followed by the tails, each of which sees the context and itself only.
The plan depends on the queries' contents, not on their order, so that a shuffled list of requests has the same batches and the same numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

# Packing needs an explicit attention mask; a context shorter than this is computed again in about the time that the mask takes.
_LEAST_CONTEXT = 4


@dataclass(frozen=True, slots=True)
class Query:
    """Token ids to read (at least one), and for how many of the last positions logits are wanted (1 to len(ids))."""

    ids: tuple[int, ...]
    n_reads: int

    @property
    def n_context(self) -> int:
        """Tokens up to and including the first position that is read off."""
        return len(self.ids) - self.n_reads + 1


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch: its ids, the columns to read off as (column, slot), and the queries it answers.

    A packed row holds a context of `tails[0]` tokens and the tails that begin at the columns `tails`; a plain row has none."""

    ids: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    n_queries: int
    tails: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that run together, longest first; either all packed or all plain."""

    rows: tuple[Row, ...]

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return len(self.rows[0].ids)

    @property
    def n_positions(self) -> int:
        """Positions computed, padding included."""
        return self.width * len(self.rows)

    @property
    def n_queries(self) -> int:
        """Queries answered."""
        return sum(row.n_queries for row in self.rows)

    @property
    def is_packed(self) -> bool:
        """Whether rows hold several tails after one context."""
        return bool(self.rows[0].tails)

    def split(self) -> tuple[Batch, Batch]:
        """Two halves; only for two rows or more."""
        middle = len(self.rows) // 2
        return Batch(self.rows[:middle]), Batch(self.rows[middle:])


@dataclass(frozen=True, slots=True)
class _Part:
    """Ids of a row, or of a tail, with what is read off it."""

    ids: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    n_queries: int = 1


def slot_offsets(queries: Sequence[Query]) -> list[int]:
    """First slot of each query, and at the end the number of slots."""
    return list(accumulate((query.n_reads for query in queries), initial=0))


def make_plan(
    queries: Sequence[Query], *, token_budget: int, row_limit: int, share_contexts: bool = False
) -> list[Batch]:
    """Batches of at most `token_budget` positions, padding included (one row may be longer).

    With `share_contexts`, contexts are computed once where that saves tokens; a packed row has at most `row_limit` tokens."""
    offsets = slot_offsets(queries)
    packed: list[Row] = []
    alone = list(range(len(queries)))
    if share_contexts:
        packed, alone = _pack_all(queries, offsets, row_limit)
    plain = [
        Row(part.ids, part.reads, part.n_queries) for part in _merge([_whole(queries[i], offsets[i]) for i in alone])
    ]
    return [*_batches(packed, token_budget), *_batches(plain, token_budget)]


def shares_a_context(queries: Sequence[Query]) -> bool:
    """Whether packing could save anything, so that its preconditions are worth checking."""
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    for query in queries:
        context = query.ids[: query.n_context]
        if query.n_reads > 1 and len(context) >= _LEAST_CONTEXT and seen.setdefault(context, query.ids) != query.ids:
            return True
    return False


def _whole(query: Query, offset: int) -> _Part:
    first = query.n_context - 1
    return _Part(query.ids, tuple((first + k, offset + k) for k in range(query.n_reads)))


def _merge(parts: list[_Part]) -> list[_Part]:
    """Drop parts whose ids begin another part's ids; their reads move to it. Sorted by ids."""
    kept: list[_Part] = []
    for part in sorted(parts, key=lambda part: part.ids, reverse=True):
        # In descending order, the parts that extend these ids come right before; the last one kept extends them if any does.
        if kept and kept[-1].ids[: len(part.ids)] == part.ids:
            host = kept[-1]
            kept[-1] = _Part(host.ids, host.reads + part.reads, host.n_queries + part.n_queries)
        else:
            kept.append(part)
    return kept[::-1]


def _pack_all(queries: Sequence[Query], offsets: list[int], row_limit: int) -> tuple[list[Row], list[int]]:
    """Packed rows for the contexts where packing pays, and the indices of the queries left over."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, query in enumerate(queries):
        groups[query.ids[: query.n_context]].append(i)
    rows: list[Row] = []
    alone: list[int] = []
    for context, members in groups.items():
        packed = _pack(context, [_tail(queries[i], offsets[i]) for i in members], row_limit) if len(members) > 1 else []
        rows += packed
        if not packed:
            alone += members
    return rows, alone


def _tail(query: Query, offset: int) -> _Part:
    """The tokens after the context. Column -1 is the context's last position."""
    return _Part(query.ids[query.n_context :], tuple((k - 1, offset + k) for k in range(query.n_reads)))


def _pack(context: tuple[int, ...], tails: list[_Part], row_limit: int) -> list[Row]:
    """Rows of one context with its tails, or none where packing saves too little or no two tails fit together."""
    tails = _merge(tails)
    if len(tails) < 2 or len(context) < _LEAST_CONTEXT:
        return []
    n_longest = max(len(tail.ids) for tail in tails)
    if len(context) + 2 * n_longest > row_limit:
        return []
    rows, row, width = [], [tails[0]], len(context) + len(tails[0].ids)
    for tail in tails[1:]:
        if width + len(tail.ids) > row_limit:
            rows.append(_packed_row(context, row))
            row, width = [], len(context)
        row.append(tail)
        width += len(tail.ids)
    return [*rows, _packed_row(context, row)]


def _packed_row(context: tuple[int, ...], tails: list[_Part]) -> Row:
    ids, starts, reads = list(context), [], []
    for tail in tails:
        start = len(ids)
        starts.append(start)
        reads += [(start + column if column >= 0 else len(context) - 1, slot) for column, slot in tail.reads]
        ids += tail.ids
    return Row(tuple(ids), tuple(reads), sum(tail.n_queries for tail in tails), tuple(starts))


def _batches(rows: list[Row], token_budget: int) -> Iterator[Batch]:
    """Cut rows, longest first, into batches of at most `token_budget` positions."""
    current: list[Row] = []
    for row in sorted(rows, key=lambda row: (-len(row.ids), row.ids, row.tails)):
        if current and len(current[0].ids) * (len(current) + 1) > token_budget:
            yield Batch(tuple(current))
            current = []
        current.append(row)
    if current:
        yield Batch(tuple(current))
