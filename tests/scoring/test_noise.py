"""Numeric noise: measured, small for float32, zero for exact arithmetic, and large when a batch leaks."""

import pytest
import torch

from trialplate.scoring import ResponseCache, Scorer, numeric_noise

PAIRS = [
    ("on the hill and ", "in the sand"),
    ("on the hill and ", "er"),
    ("a", "bc"),
    ("", "the"),
    ("the end", " and the end"),
]


def test_noise_of_float32_is_small_and_repeats_exactly(neox):
    noise = numeric_noise(Scorer(neox), PAIRS)
    assert (noise.n, noise.n_flips, noise.repeat) == (5, 0, 0.0)
    assert noise.spread == noise.batch < 1e-4
    assert noise.relative < 1e-6


def test_noise_of_a_table_is_zero(make_table):
    table = torch.randn(9, 9, generator=torch.Generator().manual_seed(1))
    noise = numeric_noise(Scorer(make_table(table)), [("1 2", " 3"), ("4", " 5 6"), ("1", " 2")])
    assert (noise.spread, noise.relative) == (0.0, 0.0)


def test_a_batch_that_leaks_is_seen(make_table):
    model = make_table(torch.randn(9, 9, generator=torch.Generator().manual_seed(1)))
    logits = model.logits
    model.logits = lambda ids, *rest: logits(ids) * (1 + 0.1 * (len(ids) > 1))
    assert numeric_noise(Scorer(model), [("1 2", " 3"), ("4", " 5 6")]).batch > 0.01


def test_a_model_that_drifts_is_seen(make_table):
    model = make_table(torch.randn(9, 9, generator=torch.Generator().manual_seed(1)))
    logits, calls = model.logits, []
    model.logits = lambda ids, *rest: calls.append(1) or logits(ids) * (1 + 0.1 * len(calls))
    assert numeric_noise(Scorer(model), [("1 2", " 3"), ("4", " 5 6")]).repeat > 0.01


def test_noise_never_comes_from_the_cache(neox, tmp_path):
    scorer = Scorer(neox, cache=ResponseCache(tmp_path / "answers.sqlite"))
    scorer.loglikelihood(PAIRS)
    numeric_noise(scorer, PAIRS)
    assert scorer.cache_hits == 0


def test_infinite_scores_that_agree_are_no_noise(make_table):
    table = torch.zeros(3, 3)
    table[0, 1] = -torch.inf
    assert numeric_noise(Scorer(make_table(table)), [("0", " 1")]).spread == 0


def test_no_pairs_are_an_error(neox):
    with pytest.raises(ValueError, match="wants at least one"):
        numeric_noise(Scorer(neox), [])
