"""Selectivity of units: bits worked out by hand, hardly a finding where there is none, and planted units found."""

import math

import numpy as np
import pytest
from scipy.special import entr
from scipy.stats import chi2, chi2_contingency, false_discovery_control

from trialplate.metrics.firings import Firings, NothingToScore, task_rates
from trialplate.metrics.selectivity import (
    benjamini_hochberg,
    chi_squared_p,
    mutual_information,
    selectivity,
    task_contrasts,
)

K = 6


def documents(rng, n=(40,) * K, length=(50,) * K):
    """(tokens, tasks) of n[k] documents of about length[k] tokens in each task."""
    tasks = np.repeat(np.arange(len(n)), n)
    return np.maximum(1, (np.repeat(length, n) * rng.lognormal(0, 0.5, tasks.size)).astype(int)), tasks


def units(rng, tokens, tasks, d, *, planted=0, factor=3.0, burst=0.5):
    """d units of rates from 0.01 to 0.2, bursty by document; the first `planted` fire more often, by a factor, in one task."""
    rates = np.exp(rng.uniform(np.log(0.01), np.log(0.2), d)) * rng.gamma(1 / burst, burst, (tokens.size, d))
    raised = (tasks[:, None] == rng.integers(0, K, d)) & (np.arange(d) < planted)
    return rng.binomial(tokens[:, None], np.minimum(np.where(raised, factor * rates, rates), 1))


def whole_documents(rng, tokens, d, rate=0.2):
    """Units that fire on every token of some documents and on none of the others: tokens could not depend more on each other."""
    return np.where(rng.random((tokens.size, d)) < rate, tokens[:, None], 0)


def coin(p):
    return (entr(p) + entr(1 - p)) / math.log(2)


def run(fires, tokens, tasks, seed=0, permutations=50, **settings):
    return selectivity(fires, tokens, tasks, np.random.default_rng(seed), permutations=permutations, **settings)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_bits_by_hand():
    # unit 0 fires on all of task 0 and none of task 1: 1 bit; unit 1 alike in both: 0; unit 2: rates 1/2 and 0, Hb(1/4) - Hb(1/2) / 2
    fires = [[10, 3, 5], [10, 3, 5], [0, 3, 0], [0, 3, 0]]
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert mutual_information(fires, [10] * 4, [0, 0, 1, 1]) == pytest.approx([1, 0, quarter - 0.5])


def test_bits_of_a_unit_that_never_or_always_fires_are_0():
    assert mutual_information([[0, 7], [0, 9]], [7, 9], [0, 1]).tolist() == [0, 0]


def test_chi_squared_is_the_likelihood_ratio_of_the_table():
    fires, tokens = np.array([[12], [30], [9]]), np.array([100, 150, 90])
    table = np.stack([fires[:, 0], tokens - fires[:, 0]])
    expected = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    bits = mutual_information(fires, tokens, [0, 1, 2])
    assert chi_squared_p(bits, 340, 3) == pytest.approx([expected.pvalue])
    assert chi_squared_p([0.0, 0.01], 340, 3) == pytest.approx(chi2.sf([0, 2 * 340 * math.log(2) * 0.01], 2))


@pytest.mark.parametrize("seed", range(5))
def test_false_discovery_rates_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    p = np.concatenate([rng.random(50), rng.random(20) ** 6, [0.0, 1.0, 0.5, 0.5]])
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), rtol=1e-13)


def test_contrast_by_hand():
    # rates 0.3 and 0.1 on 2 x 100 tokens each; clusters of a task are alike, so what is left is the prior of independent tokens:
    # worth 2 clusters against 10, v = (10/12) * 0.2 * 0.8 / 200; z = 0.2 / sqrt(2 v)
    z = task_contrasts([[30], [30], [10], [10]], [100] * 4, [0, 0, 1, 1])
    expected = 0.2 / math.sqrt(2 * 10 / 12 * 0.16 / 200)
    assert z == pytest.approx(np.array([[expected], [-expected]]))


def test_a_rare_unit_is_no_favourite():
    # fires once, in task 0: all its firings are there, and that says little; the other one fires 3 times as often in task 0
    tokens, tasks = np.full(40, 50), np.repeat([0, 1], 20)
    fires = np.zeros((40, 3), dtype=int)
    fires[0, 0] = 1
    fires[:, 1] = np.where(tasks == 0, 9, 3)
    z = task_contrasts(fires, tokens, tasks)
    assert z[0, 1] > 5 > 2 > z[0, 0] > 0
    assert z[:, 2].tolist() == [0, 0]


# --- nothing to find -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "make"),
    [
        pytest.param((50,) * K, lambda rng, tokens, tasks: units(rng, tokens, tasks, 200), id="bursts"),
        pytest.param((50,) * K, lambda rng, tokens, tasks: whole_documents(rng, tokens, 200), id="whole documents"),
        pytest.param(
            (10, 25, 50, 50, 100, 100), lambda rng, tokens, tasks: units(rng, tokens, tasks, 200), id="unequal lengths"
        ),
    ],
)
def test_dependent_tokens_give_no_discoveries(length, make):
    rng, shares, by_chance = np.random.default_rng(3), [], []
    for seed in range(25):
        tokens, tasks = documents(rng, length=length)
        result = run(make(rng, tokens, tasks), tokens, tasks, seed)
        shares.append(result.frac_selective.value)
        by_chance.append(result.frac_selective_null.value)
    assert np.mean(shares) < 0.001
    assert np.count_nonzero(shares) <= 5  # 5 % of 25 are expected: more than 5 in 1 of 1000
    assert np.mean(by_chance) < 0.001


def test_chi_squared_on_dependent_tokens_finds_what_is_not_there():
    rng = np.random.default_rng(4)
    tokens, tasks = documents(rng)
    fires = whole_documents(rng, tokens, 200)
    p = chi_squared_p(mutual_information(fires, tokens, tasks), tokens.sum(), K)
    assert (benjamini_hochberg(p) <= 0.05).mean() > 0.9
    assert run(fires, tokens, tasks).frac_selective.value == 0


def test_p_values_of_units_without_preference_are_even():
    rng = np.random.default_rng(5)
    tokens, tasks = documents(rng, length=(25, 25, 25, 100, 100, 100))
    p = run(units(rng, tokens, tasks, 800), tokens, tasks).p
    for cut in (0.01, 0.1, 0.5):
        assert (p <= cut).mean() == pytest.approx(cut, abs=4 * math.sqrt(cut * (1 - cut) / 800))


def test_bits_of_units_without_preference_are_those_of_the_null():
    rng = np.random.default_rng(6)
    tokens, tasks = documents(rng)
    result = run(units(rng, tokens, tasks, 100), tokens, tasks)
    assert result.mi_bits.ci[0] <= result.mi_null.value <= result.mi_bits.ci[1]
    assert result.bits_chance.mean() == pytest.approx(result.mi_null.value)


# --- something to find -----------------------------------------------------------------------------------------------


def test_planted_units_are_found_and_few_others():
    rng = np.random.default_rng(7)
    found, false = 0, 0
    for seed in range(5):
        tokens, tasks = documents(rng)
        selective = run(units(rng, tokens, tasks, 200, planted=40), tokens, tasks, seed).selective
        found, false = found + selective[:40].sum(), false + selective[40:].sum()
    assert found / 200 > 0.8
    assert false / (found + false) < 0.08


def test_few_permutations_are_no_floor():
    # one unit of 500 with 20 permutations: alone its p could not be under 1/21, and 0.05/500 is what it takes
    rng = np.random.default_rng(8)
    tokens, tasks = documents(rng)
    result = run(units(rng, tokens, tasks, 500, planted=1, factor=6.0), tokens, tasks, permutations=20)
    assert np.flatnonzero(result.selective).tolist() == [0]
    assert result.frac_selective.value == 1 / 500


def test_a_unit_of_one_task_is_found():
    # rates 1 and 0 have no variance of their own; the statistic stays finite
    rng = np.random.default_rng(9)
    tokens, tasks = documents(rng)
    fires = units(rng, tokens, tasks, 50)
    fires[:, 0] = np.where(tasks == 1, tokens, 0)
    result = run(fires, tokens, tasks)
    assert result.selective[0]
    assert np.isfinite(result.statistic).all()
    assert result.statistic.argmax() == 0


def test_the_interval_of_the_share_covers_other_documents():
    rng, shares, errors = np.random.default_rng(10), [], []
    rates = np.exp(rng.uniform(np.log(0.02), np.log(0.2), 200))
    own, factor = rng.integers(0, K, 200), np.where(np.arange(200) < 100, rng.uniform(1, 3, 200), 1)
    for seed in range(15):
        tokens, tasks = documents(rng, n=(30,) * K)
        raised = np.where(tasks[:, None] == own, factor, 1) * rng.gamma(2, 0.5, (tasks.size, 200))
        result = run(rng.binomial(tokens[:, None], np.minimum(rates * raised, 1)), tokens, tasks, seed, permutations=20)
        shares.append(result.frac_selective.value)
        errors.append(result.frac_selective.stderr)
    assert 0.8 < np.mean(errors) / np.std(shares, ddof=1) < 4
    assert result.frac_selective.ci[0] > result.frac_selective_null.ci[1]


def test_units_that_never_or_always_fire_are_not_selective_and_count():
    rng = np.random.default_rng(11)
    tokens, tasks = documents(rng)
    fires = units(rng, tokens, tasks, 20, planted=20, factor=6.0)
    with_others = np.hstack([fires, np.zeros((tasks.size, 10), dtype=int), np.repeat(tokens[:, None], 10, axis=1)])
    alone, beside = run(fires, tokens, tasks), run(with_others, tokens, tasks)
    assert beside.q[20:].tolist() == [1.0] * 20
    assert beside.bits[20:].tolist() == [0.0] * 20
    np.testing.assert_array_equal(beside.q[:20], alone.q)
    assert beside.frac_selective.value == pytest.approx(alone.frac_selective.value / 2)
    assert beside.mi_bits.value == pytest.approx(alone.mi_bits.value / 2)


# --- form ------------------------------------------------------------------------------------------------------------


def test_everything_equals_the_slow_form():
    from building_blocks import specialization_slow as slow

    rng = np.random.default_rng(12)
    tokens, tasks = documents(rng, (4, 6, 5), (20, 60, 30))
    order = rng.permutation(tasks.size)
    tokens, tasks = tokens[order], tasks[order]
    fires = rng.binomial(tokens[:, None], rng.beta(0.5, 3, (tasks.size, 6)))
    fires[:, 5] = np.where(tasks == 0, fires[:, 5], 0)
    result, z = run(fires, tokens, tasks, permutations=10), task_contrasts(fires, tokens, tasks)
    labels = Firings.of(fires, tokens, tasks).relabelled(10, np.random.default_rng(0)).tolist()
    plain, n_tasks, pool = (fires.tolist(), tokens.tolist(), tasks.tolist()), 3, []
    for unit in range(6):
        rates, variances = slow.rates_and_variances(*plain, unit, plain[2], n_tasks)
        assert task_rates(fires, tokens, tasks)[:, unit] == pytest.approx(rates)
        assert result.statistic[unit] == pytest.approx(slow.welch(rates, variances), rel=1e-10)
        assert result.bits[unit] == pytest.approx(slow.bits(rates, plain[1], plain[2]), abs=1e-13)
        assert z[:, unit] == pytest.approx([slow.contrast(rates, variances, k) for k in range(3)], rel=1e-10)
        null = [slow.rates_and_variances(*plain, unit, row, n_tasks) for row in labels]
        pool += [slow.welch(*pair) for pair in null]
        chance = [slow.bits(pair[0], plain[1], plain[2]) for pair in null]
        assert result.bits_chance[unit] == pytest.approx(np.mean(chance), abs=1e-13)
    p = [(1 + sum(value >= w - 1e-12 for value in pool)) / 61 for w in result.statistic]
    assert result.p == pytest.approx(p)
    assert result.q == pytest.approx(slow.benjamini_hochberg(p))


def test_leaving_out_groups_equals_leaving_out_their_documents():
    # the jackknife of the mean bits, from tables that really lack the documents of each group
    from trialplate.metrics.selectivity import _groups

    rng = np.random.default_rng(13)
    tokens, tasks = documents(rng, n=(8,) * K)
    fires = units(rng, tokens, tasks, 10, planted=5)
    stream = np.random.default_rng(0)
    table = Firings.of(fires, tokens, tasks)
    table.relabelled(50, stream)
    groups = _groups(table, stream)
    shares = np.bincount(tasks, weights=tokens) / tokens.sum()
    left = []
    for group in range(20):
        keep = groups != group
        rates = task_rates(fires[keep], tokens[keep], tasks[keep])
        left.append((coin(shares @ rates) - shares @ coin(rates)).mean())
    assert run(fires, tokens, tasks).mi_bits.stderr == pytest.approx(math.sqrt(19 * np.var(left)))


def test_a_unit_does_not_depend_on_the_block_it_is_in():
    rng = np.random.default_rng(14)
    tokens, tasks = documents(rng, n=(10,) * K)
    fires = units(rng, tokens, tasks, 600)
    whole, part = run(fires, tokens, tasks), run(fires[:, 500:], tokens, tasks)
    np.testing.assert_allclose(whole.statistic[500:], part.statistic, rtol=1e-10)
    np.testing.assert_allclose(whole.bits_chance[500:], part.bits_chance, atol=1e-14)


def test_two_clusters_a_task_give_a_test_and_no_interval():
    result = run([[9], [8], [1], [2]], [20] * 4, [0, 0, 1, 1])
    assert result.frac_selective.ci is None
    assert result.mi_bits.stderr is None
    assert result.frac_selective_null.ci is not None


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="task 1 has 1"):
        run([[9], [8], [1]], [20] * 3, [0, 0, 1])
    with pytest.raises(NothingToScore, match="never or always"):
        run([[0, 20]] * 4, [20] * 4, [0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"5 % is 0\.05"):
        run([[9], [8], [1], [2]], [20] * 4, [0, 0, 1, 1], rate=5)
    with pytest.raises(ValueError, match=r"95 % is 0\.95"):
        run([[9], [8], [1], [2]], [20] * 4, [0, 0, 1, 1], level=95)
    with pytest.raises(ValueError, match="p-values in"):
        benjamini_hochberg([0.1, np.nan])
    with pytest.raises(ValueError, match="not negative"):
        chi_squared_p([-0.1], 10, 2)
    with pytest.raises(ValueError, match="2 tasks"):
        chi_squared_p([0.1], 10, 1)
