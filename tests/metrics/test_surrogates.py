"""Surrogates keep what they say they keep, and lose what they say they lose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.association import associated_pairs
from trialplate.metrics.coactivation import count_coactivation
from trialplate.metrics.surrogates import dealt, one_per_block, shifted

LENGTHS = st.lists(st.integers(1, 20), min_size=2, max_size=60)


def documents(lengths):
    return np.repeat(np.arange(len(lengths)), lengths)


def pattern(n_tokens, n_units, seed, rate=0.4):
    return np.random.default_rng(seed).random((n_tokens, n_units)) < rate


def turns(series):
    """Every circular turn of a series."""
    return {tuple(np.roll(series, k).tolist()) for k in range(len(series))}


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(0, 2**31))
def test_a_shift_turns_each_unit_within_each_document(lengths, seed):
    document = documents([*lengths, 5])
    fires = pattern(len(document), 4, seed)
    out = shifted(fires, document, np.random.default_rng(seed))
    for name in range(len(lengths) + 1):
        rows = document == name
        for unit in range(4):
            assert tuple(out[rows, unit].tolist()) in turns(fires[rows, unit])


def test_every_offset_of_a_shift_is_equally_likely():
    fires = np.zeros((7, 7000), dtype=bool)
    fires[0] = True
    out = shifted(fires, np.zeros(7), np.random.default_rng(0))
    assert out.sum(1) == pytest.approx(np.full(7, 1000), abs=110)  # sd = 29


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(0, 2**31))
def test_a_deal_keeps_the_firings_of_each_unit_in_each_task(lengths, seed):
    lengths = [*lengths, 3, 4]
    document = documents(lengths)
    task = (document >= len(lengths) // 2).astype(int)
    fires = pattern(len(document), 4, seed)
    out = dealt(fires, document, np.random.default_rng(seed), task)
    for label in (0, 1):
        assert (out[task == label].sum(0) == fires[task == label].sum(0)).all()


def test_a_deal_of_equal_documents_is_a_permutation_of_each_units_documents():
    document = documents([6] * 50)
    fires = pattern(300, 5, 0)
    out = dealt(fires, document, np.random.default_rng(1))
    for unit in range(5):
        before, after = (sorted(x[:, unit].reshape(50, 6).tolist()) for x in (fires, out))
        assert before == after
    assert not (out == fires).all(axis=0).any()


def test_a_deal_keeps_positions_where_lengths_differ():
    lengths = np.random.default_rng(0).integers(5, 12, 90)
    document = documents(lengths)
    first = np.append(True, document[1:] != document[:-1])
    fires = np.stack([first, np.roll(first, 2)], axis=1)  # at position 0, at position 2
    assert (dealt(fires, document, np.random.default_rng(1)) == fires).all()


def test_a_deal_stays_among_documents_of_similar_length():
    document = documents([4] * 40 + [40] * 40)
    fires = np.zeros((len(document), 3), dtype=bool)
    fires[:160] = True  # all of the short documents
    assert (dealt(fires, document, np.random.default_rng(0)) == fires).all()


def test_a_deal_moves_ends_that_do_not_fit_to_where_something_is_missing():
    document = documents([1, 3])
    fires = np.array([[1], [0], [1], [1]], dtype=bool)  # "1" and "011"
    seen = {tuple(dealt(fires, document, np.random.default_rng(seed))[:, 0].tolist()) for seed in range(20)}
    # as it was, or: the first gets "0" of "011", the second "1" and then the end "11"
    assert seen == {(True, False, True, True), (False, True, True, True)}


def together(fires):
    return len(associated_pairs(count_coactivation(fires), min_firings=20).pairs)


def driven(drive, seed, on=0.5, off=0.03):
    """30 units that fire on what drives them, each by its own dice."""
    rng = np.random.default_rng(seed)
    return rng.random((len(drive), 30)) < np.where(drive, on, off)[:, None]


def test_which_null_answers_which_question():
    rng = np.random.default_rng(0)
    document = documents([12] * 200)
    task = document // 100
    n = len(document)
    every = 30 * 29 / 2
    causes = {
        "tokens": rng.random(n) < 0.1,  # content of single tokens
        "texts": (rng.random(200) < 0.1)[document],  # topic of a text
        "positions": np.arange(n) % 12 == 0,
        "tasks": task == 0,
    }
    expected = {  # edges left by (shifted, dealt within tasks, dealt over all)
        "tokens": (False, False, False),
        "texts": (True, False, False),
        "positions": (False, True, True),
        "tasks": (True, True, False),
    }
    for name, cause in causes.items():
        fires = driven(cause, 1)
        assert together(fires) > 0.9 * every, name
        nulls = (
            shifted(fires, document, rng),
            dealt(fires, document, rng, task),
            dealt(fires, document, rng),
        )
        left = [together(null) for null in nulls]
        assert [edges > 0.9 * every for edges in left] == list(expected[name]), (name, left)
        # tokens of a document still depend on each other in a null that deals, so a few edges are left by chance
        assert all(edges < 0.1 * every for edges, kept in zip(left, expected[name], strict=True) if not kept), left


def test_one_token_of_each_block():
    document = documents([15, 8, 1])
    kept = one_per_block(document, 8, np.random.default_rng(0))
    assert len(kept) == 4  # 8 + 7, 8, 1
    assert kept[-1] == 23
    assert [lo <= k < hi for k, (lo, hi) in zip(kept, [(0, 8), (8, 15), (15, 23), (23, 24)], strict=True)] == [True] * 4
    counts = np.zeros(24)
    for seed in range(800):
        counts[one_per_block(document, 8, np.random.default_rng(seed))] += 1
    assert counts[:8] == pytest.approx(np.full(8, 100), abs=38)  # sd = 9.4
    assert counts[8:15] == pytest.approx(np.full(7, 800 / 7), abs=40)
    assert one_per_block(document, 1, np.random.default_rng(0)).tolist() == list(range(24))


def test_surrogates_draw_from_their_generator_only():
    document, fires = documents([5] * 30), pattern(150, 6, 0)
    for make in (shifted, dealt):
        one, two, three = (make(fires, document, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert (one == two).all()
        assert not (one == three).all()


RNG = np.random.default_rng(0)
GOOD = pattern(6, 2, 0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: shifted(GOOD, np.arange(6), RNG), "have one token"),
        (lambda: shifted(GOOD, [0, 0, 1, 1, 0, 0], RNG), "3 runs of tokens share 2 names"),
        (lambda: shifted(GOOD.astype(float), np.zeros(6), RNG), "bool patterns"),
        (lambda: shifted(GOOD, np.zeros(5), RNG), "one document a token"),
        (lambda: shifted(GOOD[:0], [], RNG), "not empty"),
        (lambda: dealt(GOOD, np.zeros(6), RNG), "has one document"),
        (lambda: dealt(GOOD, [0, 0, 1, 1, 2, 2], RNG, [*"aaaabb"]), "task b has one document"),
        (lambda: dealt(GOOD, [0, 0, 0, 1, 1, 1], RNG, [0, 0, 1, 1, 1, 1]), "inside the document at token 2"),
        (lambda: dealt(GOOD, [0, 0, 0, 1, 1, 1], RNG, [0]), "one task label a token"),
        (lambda: one_per_block(np.zeros(6), 0, RNG), "at least one token"),
        (lambda: one_per_block([], 8, RNG), "T at least 1"),
    ],
)
def test_what_has_no_surrogate_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
