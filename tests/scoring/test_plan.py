"""Plans: every wanted position once, seen through the right tokens, in batches that depend on the contents only."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.scoring.plan import Batch, Query, make_plan, shares_a_context, slot_offsets

# Few tokens and short sequences, so that equal contexts, prefixes and duplicates are common.
ids = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
queries = st.lists(ids.flatmap(lambda i: st.builds(Query, st.just(i), st.integers(1, len(i)))), min_size=1, max_size=25)


def seen(row, column):
    """The tokens that a position sees: those before it, or the context and its own tail."""
    if not row.tails or column < row.tails[0]:
        return row.ids[: column + 1]
    start = max(tail for tail in row.tails if tail <= column)
    return row.ids[: row.tails[0]] + row.ids[start : column + 1]


def filled(plan):
    """Slot -> tokens it sees; fails for a slot filled twice."""
    slots = {}
    for batch in plan:
        for row in batch.rows:
            for column, slot in row.reads:
                assert slot not in slots
                slots[slot] = seen(row, column)
    return slots


@settings(deadline=None)
@given(queries, st.integers(1, 60), st.booleans(), st.integers(12, 30))
def test_every_slot_is_filled_once_from_its_own_tokens(queries, token_budget, share, row_limit):
    plan = make_plan(queries, token_budget=token_budget, row_limit=row_limit, share_contexts=share)
    wanted = {}
    for query, offset in zip(queries, slot_offsets(queries), strict=False):
        for k in range(query.n_reads):
            wanted[offset + k] = query.ids[: query.n_context + k]
    assert filled(plan) == wanted
    assert sum(batch.n_queries for batch in plan) == len(queries)
    for batch in plan:
        assert batch.n_positions <= token_budget or len(batch.rows) == 1
        assert batch.width == max(len(row.ids) for row in batch.rows) <= row_limit
        assert len({bool(row.tails) for row in batch.rows}) == 1


@settings(deadline=None)
@given(queries, st.randoms(use_true_random=False), st.booleans())
def test_plan_does_not_depend_on_the_order_of_the_queries(queries, rng, share):
    shuffled = rng.sample(queries, len(queries))

    def shape(queries):
        plan = make_plan(queries, token_budget=30, row_limit=20, share_contexts=share)
        return [[(row.ids, row.tails) for row in batch.rows] for batch in plan]

    assert shape(queries) == shape(shuffled)


tails = st.lists(st.lists(st.integers(0, 2), max_size=5).map(tuple), min_size=1, max_size=5)
contexts = st.lists(st.integers(0, 2), min_size=6, max_size=6).map(tuple)


@settings(deadline=None)
@given(st.dictionaries(contexts, tails, min_size=1, max_size=5))
def test_sharing_never_computes_more_tokens(questions):
    queries = [Query(context + tail, len(tail) + 1) for context, tails in questions.items() for tail in tails]

    def n_tokens(share):
        plan = make_plan(queries, token_budget=10_000, row_limit=100, share_contexts=share)
        return sum(len(row.ids) for batch in plan for row in batch.rows)

    assert n_tokens(True) <= n_tokens(False)


def test_a_query_that_begins_another_needs_no_row_of_its_own():
    plan = make_plan([Query((1, 2), 1), Query((1, 2, 3), 1), Query((1, 2), 2)], token_budget=99, row_limit=99)
    (batch,) = plan
    (row,) = batch.rows
    assert row.ids == (1, 2, 3)
    assert sorted(row.reads) == [(0, 2), (1, 0), (1, 3), (2, 1)]


def test_choices_of_one_context_become_one_packed_row():
    context = (1, 2, 3, 4, 5, 6, 7, 8)
    tails = [(10, 11), (20,), (30, 31, 32)]
    queries = [Query(context + tail, len(tail) + 1) for tail in tails]
    (batch,) = make_plan(queries, token_budget=99, row_limit=99, share_contexts=True)
    (row,) = batch.rows
    assert batch.is_packed
    assert row.ids == (*context, 10, 11, 20, 30, 31, 32)
    assert row.tails == (8, 10, 11)
    assert sorted(row.reads) == [(7, 0), (7, 3), (7, 5), (8, 1), (9, 2), (10, 4), (11, 6), (12, 7), (13, 8)]


def test_packed_rows_end_at_the_row_limit():
    queries = [Query((*range(8), 10 + k, 20 + k), 3) for k in range(5)]
    plan = make_plan(queries, token_budget=99, row_limit=12, share_contexts=True)
    assert [row.tails for batch in plan for row in batch.rows] == [(8, 10), (8, 10), (8,)]


def test_one_token_choices_share_one_plain_row():
    plan = make_plan([Query((1, 2, 3), 1)] * 4, token_budget=99, row_limit=99, share_contexts=True)
    assert [(row.ids, row.reads, row.n_queries) for batch in plan for row in batch.rows] == [
        ((1, 2, 3), ((2, 0), (2, 1), (2, 2), (2, 3)), 4)
    ]


def test_short_contexts_are_not_packed():
    queries = [Query((1, 2, k), 2) for k in (5, 6)]
    assert not any(b.is_packed for b in make_plan(queries, token_budget=99, row_limit=99, share_contexts=True))
    assert not shares_a_context(queries)


def test_sharing_is_looked_for_only_where_something_is_shared():
    assert shares_a_context([Query((*range(9), 1), 2), Query((*range(9), 2), 2)])
    assert not shares_a_context([Query((*range(9), 1), 2), Query((*range(9), 1), 2)])
    assert not shares_a_context([Query(tuple(range(9)), 1), Query(tuple(range(9)), 1)])


def test_batches_are_cut_by_padded_positions():
    queries = [Query((k,) * n, 1) for k, n in enumerate([5, 1, 5, 4, 1])]
    plan = make_plan(queries, token_budget=10, row_limit=99)
    assert [[len(row.ids) for row in batch.rows] for batch in plan] == [[5, 5], [4, 1], [1]]


def test_a_batch_splits_into_halves():
    rows = make_plan([Query((k,), 1) for k in range(5)], token_budget=99, row_limit=9)[0].rows
    first, second = Batch(rows).split()
    assert first.rows + second.rows == rows
    assert abs(len(first.rows) - len(second.rows)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_large_plan_is_sorted_by_length(seed):
    rng = random.Random(seed)
    queries = [Query(tuple(rng.choices(range(50), k=rng.randint(1, 30))), 1) for _ in range(300)]
    widths = [batch.width for batch in make_plan(queries, token_budget=64, row_limit=99)]
    assert widths == sorted(widths, reverse=True)
