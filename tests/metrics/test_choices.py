"""Credits for choices: ties are worth a blind draw among them, so a constant model is at chance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialplate.metrics.choices import best, chance, choice_credits, margins, minimal_pair_credits, per_length
from trialplate.metrics.statistics import proportion


def test_the_best_choice_earns_one():
    scores = [[-1.0, -2.0], [-3.0, -2.0, -5.0]]
    assert choice_credits(scores, [0, 1]).tolist() == [1, 1]
    assert choice_credits(scores, [1, 2]).tolist() == [0, 0]


def test_a_tie_earns_its_share():
    assert choice_credits([[-1.0, -1.0, -1.0, -9.0]], [2]).tolist() == [pytest.approx(1 / 3)]
    assert choice_credits([[-1.0, -1.0, -1.0, -9.0]], [3]).tolist() == [0]
    assert best([-1.0, -1.0]) == (0, 1)


def test_division_by_length_changes_the_choice():
    scores, lengths = [[-4.0, -6.0]], [[2, 6]]
    assert choice_credits(scores, [1]).tolist() == [0]
    assert choice_credits(scores, [1], lengths).tolist() == [1]  # -2 a character against -1


def test_minimal_pairs_count_ties_one_half():
    assert minimal_pair_credits([-1.0, -2.0, -3.0], [-2.0, -2.0, -1.0]).tolist() == [1, 0.5, 0]


def test_a_constant_model_is_at_chance():
    sizes = [2, 4, 4, 5]
    scores = [[-1.0] * size for size in sizes]
    estimate = proportion(choice_credits(scores, [0, 1, 2, 3]))
    assert estimate.value == pytest.approx(chance(sizes))
    assert proportion(minimal_pair_credits(np.zeros(8), np.zeros(8))).value == 0.5


def test_impossible_scores_tie_too():
    assert choice_credits([[-math.inf, -math.inf]], [0]).tolist() == [0.5]


def test_margins_by_hand():
    assert margins([-1.0, -5.0], [[-3.0, -2.0], [-4.0]]).tolist() == [1.0, -1.0]


@given(st.lists(st.lists(st.integers(-3, 0), min_size=2, max_size=5), min_size=1, max_size=6))
def test_credits_over_all_gold_add_up_to_one(rows):
    for row in rows:
        total = sum(choice_credits([row], [gold])[0] for gold in range(len(row)))
        assert total == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: best([]), "at least one choice"),
        (lambda: best([-1.0, math.nan]), "choice 1 of 2 scored NaN"),
        (lambda: choice_credits([[-1.0]], []), "got 1 rows, 0 gold"),
        (lambda: choice_credits([[-1.0]], [0], []), "0 rows of lengths"),
        (lambda: choice_credits([[-1.0, -2.0]], [2]), "question 0 has 2 choices, so gold 2 is none of them"),
        (lambda: choice_credits([[-1.0, -2.0]], [-1]), "gold -1 is none of them"),
        (lambda: per_length([-1.0], [1, 2]), "got 1 scores and 2 lengths"),
        (lambda: per_length([-1.0, -1.0], [1, 0]), "choice 1 is empty"),
        (lambda: chance([]), "at least one choice each"),
        (lambda: chance([4, 0]), "at least one choice each"),
        (lambda: minimal_pair_credits([-1.0], [-1.0, -2.0]), "one bad twin"),
        (lambda: minimal_pair_credits([-1.0, math.nan], [-1.0, -2.0]), "pair 1 scored NaN"),
        (lambda: margins([-1.0], []), "got 1 answers and 0 rows"),
        (lambda: margins([-1.0, -2.0], [[-1.0], []]), "1 items have no foil, first item 1"),
    ],
)
def test_misuse_is_told(call, text):
    with pytest.raises(ValueError, match=text):
        call()
