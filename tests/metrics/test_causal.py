"""The causal check: units are chosen and matched as promised, effects and z by hand."""

import math

import numpy as np
import pytest
from scipy.stats import t

from trialplate.metrics.causal import matched_sets, relative_increase, selectivity_effect, top_units, z_against


def test_top_units_are_one_percent_and_at_least_one():
    scores = np.zeros(512)
    scores[[7, 3, 400]] = [5, 9, 9]
    assert top_units(scores).tolist() == [3, 400, 7, 0, 1]  # 5.12 rounds to 5; equal scores by index
    assert top_units([1.0, 3.0, 2.0]).tolist() == [1]
    assert top_units([1.0, 3.0, 2.0], share=0.67).tolist() == [1, 2]


def test_matched_sets_match_unit_by_unit():
    rng = np.random.default_rng(0)
    rates = np.exp(rng.uniform(np.log(1e-3), np.log(0.5), 400))
    chosen = np.array([5, 17, 99, 250])
    sets = matched_sets(rates, chosen, 20, rng)
    assert sets.shape == (20, 4)
    assert not np.isin(sets, chosen).any()
    others = np.setdiff1d(np.arange(400), chosen)
    for j, unit in enumerate(chosen):
        closest = others[np.argsort(np.abs(rates[others] - rates[unit]))]
        # one of the 20 closest, or of the 3 after them where another column has taken one
        assert np.isin(sets[:, j], closest[:23]).all()
        assert np.unique(sets[:, j]).size > 5
    assert len({tuple(sorted(row)) for row in sets.tolist()}) == 20
    assert all(np.unique(row).size == 4 for row in sets)


def test_chosen_units_of_one_rate_do_not_share_stand_ins():
    rates = np.concatenate([np.full(5, 0.2), np.full(14, 0.2), np.full(30, 0.9)])
    sets = matched_sets(rates, np.arange(5), 8, np.random.default_rng(1), nearest=10)
    assert sets.min() >= 5
    assert sets.max() < 19  # 5 + 10 - 1 others of that rate are enough
    assert all(np.unique(row).size == 5 for row in sets)


def test_stand_ins_of_one_unit_are_all_different():
    sets = matched_sets(np.linspace(0, 1, 50), [25], 20, np.random.default_rng(2))
    assert np.sort(sets[:, 0]).tolist() == [*range(15, 25), *range(26, 36)]


def test_matching_by_rate_and_not_at_random():
    rng = np.random.default_rng(3)
    rates = rng.random(1000)
    chosen = np.argsort(rates)[-20:]  # the busiest units: random sets fire half as often
    sets = matched_sets(rates, chosen, 20, rng)
    assert rates[sets].mean() > 0.94
    assert rates[chosen].mean() > 0.97


def test_too_few_candidates_are_an_error():
    with pytest.raises(ValueError, match="wants 13 others, 12 of 16 are left"):
        matched_sets(np.linspace(0, 1, 16), [0, 1, 2, 3], 3, np.random.default_rng(0))
    assert matched_sets(np.linspace(0, 1, 17), [0, 1, 2, 3], 3, np.random.default_rng(0)).shape == (3, 4)
    with pytest.raises(ValueError, match="raise nearest"):
        matched_sets(np.linspace(0, 1, 50), [0], 6, np.random.default_rng(0), nearest=5)


def test_effect_by_hand():
    # own loss 2.0 -> 2.6: +30 %; others 4.0 -> 4.2 and 1.0 -> 1.15: +5 % and +15 %, mean 10 %
    assert selectivity_effect(2.6, [4.2, 1.15], 2.0, [4.0, 1.0]) == pytest.approx(0.2)
    assert selectivity_effect(2.6, 4.2, 2.0, 4.0) == pytest.approx(0.25)
    assert selectivity_effect(2.0, 4.2, 2.0, 4.0) < 0
    assert relative_increase([2.6, 1.0], [2.0, 2.0]).tolist() == pytest.approx([0.3, -0.5])


def test_z_by_hand():
    # mean 2, sd 1 of three: z = 3 / sqrt(1 + 1/3)
    found = z_against([1.0, 2.0, 3.0], 5.0)
    assert (found.mean, found.sd, found.n) == (2, 1, 3)
    assert found.z == pytest.approx(3 / math.sqrt(4 / 3))
    assert found.p == pytest.approx(t.sf(found.z, 2))


def test_p_of_one_more_random_effect_is_even():
    rng = np.random.default_rng(4)
    p = [z_against(rng.normal(size=5), rng.normal()).p for _ in range(2000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_units([]), "not empty"),
        (lambda: top_units([1.0, np.nan]), "finite"),
        (lambda: top_units([1.0], share=0), "1 % is 0.01"),
        (lambda: matched_sets(np.ones(50), [1, 1], 3, np.random.default_rng(0)), "different indices"),
        (lambda: matched_sets(np.ones(50), [50], 3, np.random.default_rng(0)), "0 .. 49"),
        (lambda: matched_sets(np.ones(50), [], 3, np.random.default_rng(0)), "at least one"),
        (lambda: relative_increase([1.0], [0.0]), "above 0"),
        (lambda: relative_increase([1.0, 2.0], [1.0]), "one before a task"),
        (lambda: relative_increase([np.inf], [1.0]), "finite"),
        (lambda: z_against([1.0], 2.0), "at least 2"),
        (lambda: z_against([1.0, 1.0], 2.0), "z is undefined"),
        (lambda: z_against([1.0, 2.0], math.nan), "finite effect"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
