"""Specialization: exact on tables worked out by hand, nothing for units that do not care, whatever documents and tasks are like."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from trialplate.metrics.firings import Firings, NothingToScore, task_rates
from trialplate.metrics.specialization import balanced_firings, specialization, specialization_index

K = 6
# bias of a unit without preference, K = 6: firings -> (plug-in, Miller and Madow)
BIAS = {
    2: (0.678, 0.561),
    5: (0.335, 0.190),
    10: (0.166, 0.053),
    20: (0.076, 0.009),
    50: (0.029, 0.001),
    100: (0.014, 0.000),
    500: (0.003, 0.000),
}


def documents(rng, n=(40,) * K, length=(50,) * K):
    """(tokens, tasks) of n[k] documents of about length[k] tokens in each task."""
    tasks = np.repeat(np.arange(len(n)), n)
    return np.maximum(1, (np.repeat(length, n) * rng.lognormal(0, 0.5, tasks.size)).astype(int)), tasks


def unselective(rng, tokens, rate, d, burst=0.0):
    """Firings of d units of one rate in every task; with `burst`, tokens of a document fire together."""
    rates = np.full((tokens.size, d), rate)
    if burst:
        rates = np.minimum(rates * rng.gamma(1 / burst, burst, rates.shape), 1)
    return rng.binomial(tokens[:, None], rates)


def run(fires, tokens, tasks, seed=0, permutations=100, draws=300, **settings):
    return specialization(
        fires, tokens, tasks, np.random.default_rng(seed), permutations=permutations, draws=draws, **settings
    )


def covers(estimate, value=0.0):
    return estimate.ci[0] <= value <= estimate.ci[1]


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_index_by_hand():
    # p = 3/4, 1/4: H = 0.5623351 nats, SI = 1 - H / ln 2; with n = 100 firings H + 1/200
    rates = np.array([[0.3, 0.2, 0.0], [0.1, 0.2, 0.5]])
    plug_in = specialization_index(rates, [100, 100, 100], "plug-in")
    assert plug_in == pytest.approx([1 - 0.5623351 / math.log(2), 0, 1], abs=1e-6)
    corrected = specialization_index(rates, [100, 100, 100])
    assert plug_in - corrected == pytest.approx([0.005 / math.log(2), 0.005 / math.log(2), 0])


def test_rates_are_sums_by_sums_and_not_counts():
    # task 0: 3 firings on 10 + 20 tokens; task 1: 3 on 300
    rates = task_rates([[2], [1], [3]], [10, 20, 300], [0, 0, 1])
    assert rates == pytest.approx(np.array([[0.1], [0.01]]))


@pytest.mark.parametrize("n", BIAS)
def test_bias_of_few_firings(n):
    # E[p ln p] of a binomial share; E[m] = K (1 - (1 - 1/K)^n)
    share = np.arange(1, n + 1) / n
    entropy = -K * (binom.pmf(np.arange(1, n + 1), n, 1 / K) * share * np.log(share)).sum()
    occupied = K * (1 - (1 - 1 / K) ** n)
    exact = [1 - entropy / math.log(K), 1 - (entropy + (occupied - 1) / (2 * n)) / math.log(K)]
    assert exact == pytest.approx(BIAS[n], abs=6e-4)
    rates = np.random.default_rng(n).multinomial(n, np.full(K, 1 / K), 60_000).T / 1000
    for correction, expected in zip(("plug-in", "miller-madow"), exact, strict=True):
        index = specialization_index(rates, np.full(60_000, n), correction)
        assert index.mean() == pytest.approx(expected, abs=4 * index.std() / math.sqrt(60_000))


def test_a_unit_of_one_task_has_index_1():
    tokens, tasks = np.full(60, 50), np.repeat(np.arange(K), 10)
    fires = np.where(tasks == 2, 20, 0)[:, None]
    result = run(fires, tokens, tasks)
    assert result.si.tolist() == [1.0]
    assert result.si_mean.value == 1
    assert result.si_excess.value == pytest.approx(1 - result.si_null.value)
    assert result.si_excess.ci[0] > 0.5
    assert result.si_coverage == 1


def test_balanced_firings_by_hand():
    # 60 firings; tokens 10 and 30: 60 * 4 / (40 * (1/10 + 1/30)) = 45; equal sizes: 60
    assert balanced_firings([[10], [30], [20]], [10, 30, 30], [0, 1, 1]) == pytest.approx(
        [60 * 4 / (70 * (1 / 10 + 1 / 60))]
    )
    assert balanced_firings([[30], [30]], [30, 30], [0, 1]) == pytest.approx([60])
    assert balanced_firings([[10], [25]], [10, 30], [0, 1]) == pytest.approx([35 * 4 / (40 * (1 / 10 + 1 / 30))])


# --- units that do not care ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "length", "rate", "burst"),
    [
        pytest.param((30,) * K, (50,) * K, 0.02, 0.0, id="independent tokens"),
        pytest.param((30,) * K, (50,) * K, 0.02, 3.0, id="documents fire together"),
        pytest.param((30,) * K, (25, 25, 25, 100, 100, 100), 0.02, 0.0, id="unequal lengths"),
        pytest.param((30,) * K, (25, 25, 25, 100, 100, 100), 0.05, 3.0, id="unequal lengths, documents fire together"),
    ],
)
def test_the_interval_of_unselective_units_holds_0(n, length, rate, burst):
    rng, held, excess = np.random.default_rng(5), 0, []
    for seed in range(40):
        tokens, tasks = documents(rng, n, length)
        result = run(unselective(rng, tokens, rate, 24, burst), tokens, tasks, seed, permutations=50, draws=150)
        held += covers(result.si_excess)
        excess.append(result.si_excess.value)
    assert held >= 34  # 85 % of 40
    assert abs(np.mean(excess)) < 4 * np.std(excess) / math.sqrt(40) + 5e-4


def test_resampling_noise_is_not_read_as_specialization():
    # a redrawn table is noisier than the table: unmoved percentiles lie above the index itself
    rng, held_if_unmoved = np.random.default_rng(6), 0
    for seed in range(10):
        tokens, tasks = documents(rng)
        fires = unselective(rng, tokens, 0.02, 24, burst=3.0)
        result = run(fires, tokens, tasks, seed)
        table = Firings.of(fires, tokens, tasks)
        redrawn = []
        for times in table.redrawn(100, np.random.default_rng(seed)).astype(int):
            some = np.repeat(np.arange(tasks.size), times)
            again = Firings.of(fires[some], tokens[some], tasks[some])
            redrawn.append(specialization_index(again.rates(), again.firings()).mean())
        held_if_unmoved += np.quantile(redrawn, 0.025) <= result.si_null.value
        assert covers(result.si_excess)
    assert held_if_unmoved == 0


def test_long_documents_do_not_lend_their_precision():
    # labels moved together with the tokens give all tasks the same tokens: a null without the noise of the short task
    rng = np.random.default_rng(7)
    tokens, tasks = documents(rng, length=(4, 100, 100, 100, 100, 100))
    fires = unselective(rng, tokens, 0.05, 60)
    result = run(fires, tokens, tasks)
    assert covers(result.si_excess)
    moved = []
    for labels in Firings.of(fires, tokens, tasks).relabelled(20, rng):
        table = Firings.of(fires, tokens, labels)
        moved.append(specialization_index(table.rates(), table.firings()).mean())
    assert not covers(result.si_mean, np.mean(moved))


@pytest.mark.parametrize(
    ("n", "length"),
    [((24,) * K, (3000, 18, 18, 18, 18, 18)), ((1200, 7, 7, 7, 7, 7), (60,) * K)],
    ids=["long documents", "many documents"],
)
def test_unbalanced_tasks_do_not_make_units_selective(n, length):
    rng = np.random.default_rng(8)
    tokens, tasks = documents(rng, n, length)
    assert tokens[tasks == 0].sum() / tokens.sum() > 0.96
    fires = unselective(rng, tokens, 0.2, 40)
    result = run(fires, tokens, tasks)
    assert result.si_coverage == 1
    assert covers(result.si_excess)
    assert result.si_mean.value < 0.05
    counts = np.stack([fires[tasks == k].sum(axis=0) for k in range(K)])
    assert specialization_index(counts, counts.sum(axis=0)).mean() > 0.85  # what counts instead of rates would say


def test_firings_that_a_small_task_cannot_see_do_not_count():
    # 200 firings a unit, but 1 expected in each of the small tasks: their rates say nothing
    rng = np.random.default_rng(9)
    tokens, tasks = documents(rng, (24,) * K, (3000, 18, 18, 18, 18, 18))
    fires = unselective(rng, tokens, 200 / tokens.sum(), 20)
    assert fires.sum(axis=0).min() > 50
    with pytest.raises(NothingToScore, match="balanced firings"):
        run(fires, tokens, tasks)


def test_plug_in_entropy_makes_rare_units_look_selective():
    rng = np.random.default_rng(10)
    tokens, tasks = documents(rng)
    rare, common = (unselective(rng, tokens, n / tokens.sum(), 30) for n in (8, 400))
    rare = rare[:, rare.sum(axis=0) > 0]
    assert specialization_index(task_rates(rare, tokens, tasks), rare.sum(axis=0), "plug-in").mean() > 0.15
    result = run(np.hstack([rare, common]), tokens, tasks)
    assert result.units.tolist() == list(range(rare.shape[1], rare.shape[1] + 30))
    assert result.si_coverage == 30 / (rare.shape[1] + 30)
    assert result.si_mean.value < 0.01
    with pytest.raises(NothingToScore, match="undefined"):
        run(rare, tokens, tasks)


def test_dealt_labels_show_no_specialization():
    rng = np.random.default_rng(11)
    tokens, tasks = documents(rng)
    fires = selective(rng, tokens, tasks)
    assert run(fires, tokens, tasks).si_excess.value > 0.05
    control = run(fires, tokens, rng.permutation(tasks))
    assert abs(control.si_excess.value) < 0.01
    assert covers(control.si_excess)


# --- units that care -------------------------------------------------------------------------------------------------


def selective(rng, tokens, tasks, d=40, share=0.5, factor=4.0):
    """d units of which a share fires more often, by a factor, in one task."""
    own = rng.integers(0, K, d)
    raised = (tasks[:, None] == own) & (np.arange(d) < share * d)
    return rng.binomial(tokens[:, None], np.where(raised, factor * 0.03, 0.03))


def test_selective_units_are_seen():
    rng = np.random.default_rng(12)
    tokens, tasks = documents(rng, length=(25, 25, 25, 100, 100, 100))
    result = run(selective(rng, tokens, tasks, share=0.2), tokens, tasks)
    assert result.si_excess.ci[0] > 0
    assert result.si_null.ci[1] < result.si_mean.value
    assert (result.si - result.si_chance)[:8].min() > 5 * np.abs((result.si - result.si_chance)[8:]).mean()


def test_the_interval_of_selective_units_holds_their_index():
    # rates 0.12 in one task, 0.03 in five: p = 4/9, 1/9; the null is near 0
    p = np.array([4, 1, 1, 1, 1, 1]) / 9
    truth = 1 + (p * np.log(p)).sum() / math.log(K)
    rng, held = np.random.default_rng(13), 0
    for seed in range(30):
        tokens, tasks = documents(rng)
        result = run(selective(rng, tokens, tasks, d=10, share=1), tokens, tasks, seed, permutations=50, draws=200)
        held += covers(result.si_mean, truth)
    assert held >= 25


# --- form ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(14)
    tokens, tasks = documents(rng, (4, 6, 5), (20, 60, 30))
    order = rng.permutation(tasks.size)
    fires = unselective(rng, tokens, 0.15, 5, burst=2.0)
    fires[:, 0] = np.where(np.arange(tasks.size) == 3, np.minimum(tokens, 15), 0)  # silent in many draws
    return fires[order], tokens[order], tasks[order]


def test_everything_equals_the_slow_form(small):
    from building_blocks import specialization_slow as slow

    fires, tokens, tasks = small
    result = run(fires, tokens, tasks, permutations=20, draws=30, min_firings=1)
    assert result.units.tolist() == [0, 1, 2, 3, 4]
    rng, table = np.random.default_rng(0), Firings.of(*small)
    labels, times = table.relabelled(20, rng), table.redrawn(30, rng)
    plain = fires.tolist(), tokens.tolist(), tasks.tolist()
    for unit in range(5):
        assert result.si[unit] == pytest.approx(slow.relabelled_index(*plain, unit, tasks.tolist(), 3), abs=1e-12)
        null = [slow.relabelled_index(*plain, unit, row, 3) for row in labels.tolist()]
        assert result.si_chance[unit] == pytest.approx(np.mean(null), abs=1e-12)
    redrawn = np.array([[slow.redrawn_index(*plain, u, row, 3) for u in range(5)] for row in times.tolist()]).mean(1)
    ends = np.quantile(redrawn, [0.025, 0.975]) - redrawn.mean()
    assert result.si_mean.ci == pytest.approx(tuple(result.si_mean.value + ends), abs=1e-12)
    assert result.si_excess.ci == pytest.approx(tuple(result.si_excess.value + ends), abs=1e-12)
    assert result.si_excess.stderr == pytest.approx(redrawn.std(ddof=1), abs=1e-12)


def test_redrawing_keeps_each_task(small):
    table = Firings.of(*small)
    times = table.redrawn(50, np.random.default_rng(0))
    for task, n in enumerate([4, 6, 5]):
        assert (times[:, table.tasks == task].sum(axis=1) == n).all()
    assert times.max() > 1
    assert (np.sort(table.relabelled(50, np.random.default_rng(0)), axis=1) == np.sort(table.tasks)).all()


def test_a_unit_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(15)
    tokens, tasks = documents(rng)
    fires = unselective(rng, tokens, 0.1, 700)  # more than one block of units
    whole, part = run(fires, tokens, tasks, draws=50), run(fires[:, 600:], tokens, tasks, draws=50)
    np.testing.assert_allclose(whole.si[600:], part.si, atol=1e-12)
    np.testing.assert_allclose(whole.si_chance[600:], part.si_chance, atol=1e-12)


def test_the_seed_decides():
    rng = np.random.default_rng(16)
    tokens, tasks = documents(rng)
    fires = unselective(rng, tokens, 0.1, 5)
    assert run(fires, tokens, tasks).si_excess == run(fires, tokens, tasks).si_excess
    assert run(fires, tokens, tasks).si_null != run(fires, tokens, tasks, seed=1).si_null


def test_a_task_of_one_cluster_gives_no_interval():
    result = run(np.full((3, 1), 40), [50, 50, 50], [0, 0, 1])
    assert result.si_excess.ci is None
    assert result.si_mean.stderr is None
    assert result.si_null.ci is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fires": np.zeros((0, 3))}, "none of them empty"),
        ({"tokens": [10, 10]}, "one size and one task a cluster"),
        ({"tokens": [10, 10, 0, 10]}, "at least one token"),
        ({"tokens": [10, 10, 3, 10]}, "at most once a token"),
        ({"fires": [[1.5], [1], [1], [1]]}, "whole numbers"),
        ({"fires": [[np.nan], [1], [1], [1]]}, "whole numbers"),
        ({"fires": [[-1], [1], [1], [1]]}, "whole numbers"),
        ({"tasks": [0, 0, 2, 2]}, "0 .. K-1"),
        ({"tasks": [0, 0, 0, 0]}, "at least 2 tasks"),
        ({"tasks": [0.0, 0, 1, 1]}, "integer labels"),
        ({"permutations": 1}, "2 permutations"),
        ({"draws": 1}, "2 draws"),
        ({"level": 95}, "95 % is 0.95"),
        ({"min_firings": 0}, "at least 1"),
    ],
)
def test_wrong_input_is_named(change, message):
    good = {"fires": [[5], [5], [5], [5]], "tokens": [10, 10, 10, 10], "tasks": [0, 0, 1, 1], "min_firings": 5}
    with pytest.raises(ValueError, match=message):
        run(**{**good, **change})


def test_wrong_rates_are_named():
    with pytest.raises(ValueError, match="never fired, first unit 1"):
        specialization_index([[0.1, 0], [0.2, 0]], [5, 0])
    with pytest.raises(ValueError, match="'plug-in'"):
        specialization_index([[0.1], [0.2]], [5], "jackknife")
    with pytest.raises(ValueError, match="at least 2 tasks"):
        specialization_index([[0.1]], [5])
    with pytest.raises(ValueError, match="finite"):
        specialization_index([[0.1], [np.nan]], [5])
