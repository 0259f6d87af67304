"""Stability over seeds: intervals whose observations are seeds, chance taken off, families, gains; and the faults that each must not have."""

import math

import numpy as np
import pytest
import torch
from building_blocks.sae_stability_slow import slow_jackknife, slow_pair_mean
from scipy.special import stdtrit

from trialplate.metrics.decoder_similarity import matched_cosine, subspace_overlap
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.random_directions import expected_max_cosine, gaussian_rows
from trialplate.metrics.seed_resampling import pair_mean, permutation_test, seed_estimate, seed_values
from trialplate.metrics.seed_stability import compare, seeds_differ, stability, stability_gain, stability_of
from trialplate.metrics.statistics import mean

NO_CHANCE = Estimate(0.0, 1, 0.0, (0.0, 0.0))


def rng(seed=0):
    return np.random.default_rng(seed)


def unrelated(n, m=24, d=12, seed=0):
    return [gaussian_rows(m, d, rng(seed + i)) for i in range(n)]


def alike(n, m=24, d=12, noise=0.3, seed=0, centre=7):
    """Coders that found the same directions, each in an order of its own, give or take."""
    common = gaussian_rows(m, d, rng(centre))
    return [(common + noise * gaussian_rows(m, d, rng(seed + i)))[rng(i).permutation(m)] for i in range(n)]


def table(*pairs):
    """Symmetric, from the pairs (0, 1), (0, 2) ... of n seeds."""
    n = round((1 + math.sqrt(1 + 8 * len(pairs))) / 2)
    s = np.eye(n)
    s[np.triu_indices(n, 1)] = pairs
    return np.maximum(s, s.T)


def effects(n, generator, mean=0.4, of_seeds=0.05, of_pairs=0.0):
    """s_ij = mean + a_i + a_j + e_ij: what is true of seeds is a, and pairs share it."""
    a = generator.normal(0, of_seeds, n)
    e = np.triu(generator.normal(0, 1, (n, n)), 1) * of_pairs
    s = mean + a[:, None] + a + e + e.T
    np.fill_diagonal(s, 1)
    return s


# --- intervals over seeds --------------------------------------------------------------------------------------------


def test_jackknife_by_hand():
    # pairs .5 .6 .7: without seed 0 .7, without 1 .6, without 2 .5; stderr^2 = 2/3 (.01 + 0 + .01); t(2, .975) = 4.3026527
    found = stability_of(table(0.5, 0.6, 0.7), NO_CHANCE, rng=rng())
    stderr = math.sqrt(2 / 3 * 0.02)
    assert found.raw.value == pytest.approx(0.6)
    assert found.raw.stderr == pytest.approx(stderr)
    assert found.raw.ci == pytest.approx((0.6 - 4.3026527 * stderr, 0.6 + 4.3026527 * stderr))
    assert found.raw.n == found.n_seeds == 3
    assert found.pairs == pytest.approx([0.5, 0.6, 0.7])
    assert seed_values(table(0.5, 0.6, 0.7)) == pytest.approx([0.4, 0.6, 0.8])


def test_jackknife_agrees_with_the_slow_form():
    s = effects(6, rng(3), of_pairs=0.1)
    value, stderr = slow_jackknife(s.tolist())
    found = stability_of(s, NO_CHANCE, rng=rng()).raw
    assert (found.value, found.stderr) == pytest.approx((value, stderr))


def test_a_seed_drawn_twice_is_not_paired_with_itself():
    s = effects(4, rng(1), of_pairs=0.1)
    counts = np.array([[2, 0, 1, 1], [1, 1, 1, 1], [4, 0, 0, 0]])
    found = pair_mean(s, counts)
    assert found[0] == pytest.approx(slow_pair_mean(s.tolist(), [0, 0, 2, 3]))
    assert found[1] == pytest.approx(slow_pair_mean(s.tolist(), [0, 1, 2, 3]))
    assert np.isnan(found[2])


def covers(interval, truth):
    return interval.ci[0] <= truth <= interval.ci[1]


def test_pairs_are_not_treated_as_independent():
    # five seeds whose effects add up: ten pairs as if independent cover about 60 % of the time, seeds 95
    generator, runs = rng(11), 400
    tables = [effects(5, generator) for _ in range(runs)]
    over_seeds = np.mean([covers(stability_of(s, NO_CHANCE, rng=generator).raw, 0.4) for s in tables])
    over_pairs = np.mean([covers(mean(s[np.triu_indices(5, 1)]), 0.4) for s in tables])
    assert over_seeds == pytest.approx(0.95, abs=0.035)  # 3 standard errors of 400
    assert over_pairs < 0.7


def test_t_and_not_z_is_the_quantile_of_few_seeds():
    s = table(0.5, 0.6, 0.7)
    found = stability_of(s, NO_CHANCE, rng=rng()).raw
    half = (found.ci[1] - found.ci[0]) / 2
    assert half / found.stderr == pytest.approx(float(stdtrit(2, 0.975)))
    assert half / found.stderr > 2 * 1.96
    generator = rng(5)
    with_z = 0
    for _ in range(300):
        raw = stability_of(effects(3, generator), NO_CHANCE, rng=generator).raw
        with_z += abs(raw.value - 0.4) <= 1.96 * raw.stderr
    assert with_z / 300 < 0.88


def test_three_seeds_get_no_percentile_interval():
    with pytest.raises(ValueError, match=r"at least 10 seeds an arm.*covers 79 % at 5.*jackknife"):
        stability_of(table(0.5, 0.6, 0.7), NO_CHANCE, rng=rng(), interval="bootstrap")
    assert "jackknife over 3 seeds, Student t" in stability_of(table(0.5, 0.6, 0.7), NO_CHANCE, rng=rng()).raw.method


def test_bootstrap_of_many_seeds_agrees_with_the_jackknife():
    s = effects(30, rng(2))
    jackknife = stability_of(s, NO_CHANCE, rng=rng()).raw
    bootstrap = stability_of(s, NO_CHANCE, rng=rng(), interval="bootstrap", n_boot=1000).raw
    assert bootstrap.value == jackknife.value
    assert bootstrap.stderr == pytest.approx(jackknife.stderr, rel=0.15)
    assert bootstrap.ci == pytest.approx(jackknife.ci, abs=0.3 * jackknife.stderr)
    assert bootstrap.method == "bootstrap over 30 seeds, 1000 draws, percentiles"


def test_one_generator_makes_equal_bootstraps():
    s = effects(12, rng(2))
    one, two = (stability_of(s, NO_CHANCE, rng=rng(4), interval="bootstrap", n_boot=50).raw for _ in range(2))
    assert one == two


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_seeds_are_refused(n):
    with pytest.raises(ValueError, match="at least 3 seeds"):
        seed_estimate(lambda c: c[:, 0], (n,), rng())
    if n:
        with pytest.raises(ValueError, match="at least 3 seeds"):
            stability(unrelated(n), rng=rng())


# --- chance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", ["matched_cosine", "mean_max_cosine", "mutual_nearest"])
def test_unrelated_coders_are_at_chance_and_equal_ones_at_one(statistic):
    found = stability(unrelated(5, seed=50), statistic=statistic, rng=rng())
    assert found.adjusted.ci[0] < 0 < found.adjusted.ci[1]
    assert abs(found.adjusted.value) < 0.1
    same = stability(alike(3, noise=1e-5), statistic=statistic, rng=rng())
    assert same.adjusted.value == pytest.approx(1, abs=1e-6)
    assert same.raw.value == pytest.approx(1, abs=1e-6)


def test_raw_scores_rise_with_width_where_nothing_was_found():
    narrow, wide = (stability(unrelated(3, m=m), statistic="mean_max_cosine", rng=rng()) for m in (24, 240))
    assert wide.raw.value > narrow.raw.value + 0.15
    assert abs(narrow.adjusted.value) < 0.05
    assert abs(wide.adjusted.value) < 0.05


def test_adjusted_is_the_raw_score_above_chance_with_the_doubt_of_both():
    chance = mean([0.18, 0.2, 0.22])  # 0.2 +- 0.02 / sqrt 3
    found = stability_of(table(0.5, 0.6, 0.7), chance, rng=rng())
    assert found.adjusted.value == pytest.approx(0.5)
    of_seeds, of_chance = found.raw.stderr / 0.8, chance.stderr * 0.4 / 0.64
    assert found.adjusted.stderr == pytest.approx(math.hypot(of_seeds, of_chance))
    exact = stability_of(table(0.5, 0.6, 0.7), Estimate(0.2, 3, 0.0, (0.2, 0.2)), rng=rng())
    assert exact.adjusted.stderr == pytest.approx(of_seeds)
    assert exact.adjusted.ci == pytest.approx(tuple((end - 0.2) / 0.8 for end in exact.raw.ci))


def test_a_chance_level_that_is_known_is_not_drawn_again():
    known = Estimate(0.5, 10, 0.0, (0.5, 0.5))
    assert stability(unrelated(3), chance=known, rng=rng()).chance is known


def test_untrained_coders_are_a_second_null():
    # untrained coders share something (an initialisation from common data): half of what the trained ones seem to have found is that
    found = stability(alike(3, noise=0.2), untrained=alike(3, noise=1.0, seed=90), rng=rng())
    assert found.untrained.value > found.chance.value
    assert 0 < found.above_untrained.value < found.adjusted.value
    assert found.above_untrained.value == pytest.approx(
        (found.raw.value - found.untrained.value) / (1 - found.untrained.value)
    )
    assert stability(unrelated(3), rng=rng()).above_untrained is None
    with pytest.raises(ValueError, match=r"one shape; got \[8, 12\] and \[24, 12\]"):
        stability(unrelated(3), untrained=unrelated(3, m=8), rng=rng())


# --- which latents, which coders -------------------------------------------------------------------------------------


def test_only_alive_latents_count_and_chance_is_theirs():
    coders = alike(3, m=20, noise=0.05)
    masks = [np.ones(20, dtype=bool) for _ in coders]
    for i, (coder, mask) in enumerate(zip(coders, masks, strict=True)):
        dead = rng(60 + i).choice(20, 8, replace=False)
        coder[dead] = gaussian_rows(8, 12, rng(70 + i))  # what they were initialised with
        mask[dead] = False
    everything, alive = (
        stability(coders, alive=given, rng=rng(), statistic="mean_max_cosine") for given in (None, masks)
    )
    assert alive.raw.value > everything.raw.value + 0.05
    assert everything.chance.value == pytest.approx(expected_max_cosine(12, 20))
    assert alive.chance.value == pytest.approx(expected_max_cosine(12, 12))


def test_coders_with_different_numbers_of_alive_latents_have_the_chance_of_their_sizes():
    masks = [np.arange(24) < kept for kept in (24, 16, 8)]
    found = stability(unrelated(3), alive=masks, statistic="mean_max_cosine", rng=rng())
    expected = np.mean([expected_max_cosine(12, m) for m in (24, 16, 24, 8, 16, 8)])
    assert found.chance.value == pytest.approx(expected)
    drawn = stability(unrelated(3), alive=masks, rng=rng(), draws=4)
    assert drawn.chance.n == 6  # twice for each of three pairs of sizes
    assert "alive in each pair" in drawn.chance.method


def test_dead_latents_without_a_direction_need_a_mask():
    coders = unrelated(3)
    coders[1][4] = 0
    with pytest.raises(ValueError, match="1 of 24 rows"):
        stability(coders, rng=rng())
    masks = [np.ones(24, dtype=bool), np.arange(24) != 4, np.ones(24, dtype=bool)]
    assert stability(coders, alive=masks, rng=rng()).n_seeds == 3


def test_weights_by_mass_say_whether_what_matters_is_stable():
    coders, masses = [], []
    for i in range(3):  # half of the latents, with nearly all of the mass, are found again
        common = gaussian_rows(12, 12, rng(1))
        coders.append(
            np.concatenate([common + 0.05 * gaussian_rows(12, 12, rng(20 + i)), gaussian_rows(12, 12, rng(30 + i))])
        )
        masses.append(np.repeat([1.0, 0.01], 12))
    plain, by_mass = (stability(coders, weights=given, rng=rng()) for given in (None, masses))
    assert by_mass.adjusted.value > 0.9
    assert plain.adjusted.value < 0.8
    with pytest.raises(ValueError, match="weights are for mean_max_cosine and matched_cosine"):
        stability(coders, weights=masses, statistic="mutual_nearest", rng=rng())


def test_stability_bought_by_copying_a_reference_does_not_count():
    # three references that have nothing in common, and three coders pulled to each of them
    coders = [coder for centre in (1, 2, 3) for coder in alike(3, noise=0.05, seed=10 * centre, centre=centre)]
    families = [reference for reference in "abc" for _ in range(3)]
    believed, found = stability(coders, rng=rng()), stability(coders, families=families, rng=rng())
    assert believed.adjusted.ci[0] > 0
    assert abs(found.adjusted.value) < 0.1
    assert found.n_seeds == 3
    with pytest.raises(ValueError, match="at least 3 seeds an arm, got 1"):
        stability(coders[:3], families=["a"] * 3, rng=rng())


def test_families_are_compared_by_all_pairs_of_their_coders():
    coders = unrelated(6)
    found = stability(coders, families="aabbcc", rng=rng())
    across = [matched_cosine(coders[i], coders[j]) for i in (0, 1) for j in (2, 3)]
    assert found.table[0, 1] == pytest.approx(np.mean(across))
    assert found.table.shape == (3, 3)


def test_one_coder_twice_is_no_second_seed():
    coders = unrelated(4)
    coders[3] = coders[1].copy()
    with pytest.raises(ValueError, match="coders 1 and 3 have the same decoder"):
        stability(coders, rng=rng())
    with pytest.raises(ValueError, match="coders 0 and 2 have the same decoder"):
        stability([torch.tensor(coders[i]) for i in (1, 0, 1)], rng=rng())


def test_the_two_arms_have_one_shape_and_nothing_is_transposed():
    coders = unrelated(3, m=8, d=12)
    with pytest.raises(ValueError, match=r"one shape \[m, d\].*transposed"):
        stability([coders[0], coders[1], coders[2].T], rng=rng())
    with pytest.raises(ValueError, match="one shape"):
        seeds_differ(coders, unrelated(3, m=9, d=12), paired=False, rng=rng())


def test_misuse():
    coders = unrelated(3)
    with pytest.raises(ValueError, match="coder 2 has no alive latent"):
        stability(coders, alive=[np.ones(24, bool), np.ones(24, bool), np.zeros(24, bool)], rng=rng())
    with pytest.raises(ValueError, match=r"bool \[m\]; coder 0 has int64"):
        stability(coders, alive=[np.ones(24, int)] * 3, rng=rng())
    with pytest.raises(ValueError, match=r"alive is one vector \[24\] for each of 3 coders"):
        stability(coders, alive=[np.ones(24, bool)] * 2, rng=rng())
    with pytest.raises(ValueError, match="one family a coder"):
        stability(coders, families="abcd", rng=rng())
    with pytest.raises(ValueError, match="finite symmetric table"):
        stability_of(np.full((3, 3), np.nan), NO_CHANCE, rng=rng())
    with pytest.raises(ValueError, match="nothing can be above it"):
        stability(coders, statistic=lambda a, b: subspace_overlap(a, b, 12), rng=rng())
    with pytest.raises(ValueError, match="jackknife or bootstrap"):
        stability(coders, interval="normal", rng=rng())


# --- gains -----------------------------------------------------------------------------------------------------------


def test_gain_of_unrelated_arms_by_hand():
    # stderr^2 of the arms adds up; Welch: (v + v)^2 / (2 v^2 / 2) = 4 degrees for arms of one variance
    a, b = (stability_of(table(*pairs), NO_CHANCE, rng=rng()) for pairs in ((0.5, 0.6, 0.7), (0.2, 0.3, 0.4)))
    gain = compare(a, b, paired=False, rng=rng())
    stderr = math.sqrt(2 * 2 / 3 * 0.02)
    assert gain.raw.value == pytest.approx(0.3)
    assert gain.raw.stderr == pytest.approx(stderr)
    assert gain.raw.ci == pytest.approx((0.3 - 2.7764451 * stderr, 0.3 + 2.7764451 * stderr))
    assert gain.raw.n == 6
    assert gain.effect_size == pytest.approx(0.3 / 0.2)  # pseudo-values .4 .6 .8 and .1 .3 .5: sd .2


def test_seeds_that_arms_share_are_left_out_of_both():
    a = stability_of(table(0.5, 0.6, 0.7), NO_CHANCE, rng=rng())
    b = stability_of(table(0.2, 0.3, 0.4), NO_CHANCE, rng=rng())
    paired = compare(a, b, paired=True, rng=rng())
    assert paired.raw.value == pytest.approx(0.3)
    assert paired.raw.stderr == pytest.approx(0, abs=1e-12)  # seed by seed the difference is the same
    assert paired.raw.n == 3
    with pytest.raises(ValueError, match="the same seeds in the same order"):
        compare(a, stability_of(effects(4, rng()), NO_CHANCE, rng=rng()), paired=True, rng=rng())


def test_adjusted_gain_by_hand_with_the_doubt_of_both_chance_levels():
    drawn = mean([0.18, 0.2, 0.22])
    a, b = (stability_of(table(*pairs), drawn, rng=rng()) for pairs in ((0.5, 0.6, 0.7), (0.2, 0.3, 0.4)))
    gain = compare(a, b, paired=True, rng=rng()).adjusted
    assert gain.value == pytest.approx(0.4 / 0.8 - 0.1 / 0.8)
    # seeds show no spread of the difference; what is left is that of chance: 0.4 / 0.64 and 0.7 / 0.64 of its standard error
    assert gain.stderr == pytest.approx(drawn.stderr * math.hypot(0.4, 0.7) / 0.64)


def test_difference_has_its_own_distribution():
    # the low end of one interval minus the high end of the other is no bound of the difference: it is too wide
    generator = rng(8)
    a, b = (stability_of(effects(8, generator, mean), NO_CHANCE, rng=generator) for mean in (0.5, 0.4))
    gain = compare(a, b, paired=False, rng=generator).raw
    assert gain.ci[0] > a.raw.ci[0] - b.raw.ci[1]
    assert gain.ci[1] < a.raw.ci[1] - b.raw.ci[0]
    hits = [
        covers(
            compare(
                *(stability_of(effects(4, generator, mu), NO_CHANCE, rng=generator) for mu in (0.5, 0.4)),
                paired=False,
                rng=generator,
            ).raw,
            0.1,
        )
        for _ in range(200)
    ]
    assert np.mean(hits) > 0.9


def test_bootstrap_of_a_gain():
    a, b = (stability_of(effects(12, rng(seed)), NO_CHANCE, rng=rng()) for seed in (1, 2))
    for paired in (True, False):
        one, two = (
            compare(a, b, paired=paired, rng=rng(), interval=interval, n_boot=500).raw
            for interval in ("bootstrap", "jackknife")
        )
        assert one.value == two.value
        assert one.stderr == pytest.approx(two.stderr, rel=0.25)


def test_significance_without_effect_size_does_not_pass():
    # 0.3001 against 0.2988 of d = 128, m = 1,024: every permutation is less extreme, and nothing was found
    generator = rng(3)
    chance = Estimate(0.2988, 10, 0.0, (0.2988, 0.2988))
    joint = effects(10, generator, mean=0.2988, of_seeds=1e-5)
    joint[:5, :5] += 0.0013
    a, b = (stability_of(joint[part, part], chance, rng=generator) for part in (slice(0, 5), slice(5, 10)))
    gain = compare(a, b, paired=False, rng=generator)
    test = permutation_test(joint, np.arange(10) < 5, generator)
    assert test.p_value < 0.01
    assert gain.raw.ci[0] > 0
    assert gain.effect_size > 10
    assert gain.adjusted.ci[1] < 0.01  # what a gate asks a minimum of, e.g. 0.1


def test_gain_over_random_decoders_of_coders_that_agree():
    gain = stability_gain(alike(3), unrelated(3, seed=40), paired=False, rng=rng())
    nothing = stability_gain(unrelated(4, seed=80), unrelated(4, seed=40), paired=False, rng=rng())
    assert gain.ci[0] > 0.5
    assert nothing.ci[0] < 0 < nothing.ci[1]


# --- permutations of seeds -------------------------------------------------------------------------------------------


def test_permutation_by_hand():
    # of 3 and 3 coders only the arms as they are put all pairs of 1 into the first: 1 of 20 ways, and that is the least p there is
    joint = np.zeros((6, 6))
    joint[:3, :3] = 1
    found = permutation_test(joint, [True] * 3 + [False] * 3, rng())
    assert found == (1 / 20, 1 / 20, 20, True)
    assert permutation_test(joint, [False] * 3 + [True] * 3, rng()).p_value == 1
    paired = permutation_test(joint, [True] * 3 + [False] * 3, rng(), paired=True)
    assert paired == (1 / 8, 1 / 8, 8, True)


def test_permutation_p_of_arms_that_do_not_differ_is_uniform():
    generator = rng(1)
    first = np.arange(8) < 4
    p = [permutation_test(effects(8, generator, of_pairs=0.02), first, generator).p_value for _ in range(200)]
    assert np.mean(np.array(p) <= 0.1) < 0.17
    assert 0.4 < np.mean(p) < 0.6


def test_many_seeds_are_permuted_at_random_and_never_show_zero():
    joint = effects(20, rng(2))
    joint[:10, :10] += 1
    for paired in (False, True):
        found = permutation_test(joint, np.arange(20) < 10, rng(), paired=paired, draws=99)
        assert (found.p_value, found.n, found.exact) == (1 / 99, 99, False)


def test_decoders_that_agree_differ_from_those_that_do_not():
    assert seeds_differ(alike(3), unrelated(3, seed=40), paired=False, rng=rng()).p_value == 1 / 20
    assert seeds_differ(unrelated(3, seed=80), unrelated(3, seed=60), paired=True, rng=rng()).p_value > 1 / 8


def test_permutation_misuse():
    with pytest.raises(ValueError, match="at least 3 seeds an arm, got 2, 3"):
        permutation_test(np.eye(5), [True, True, False, False, False], rng())
    with pytest.raises(ValueError, match="got 3 and 4 coders"):
        permutation_test(np.eye(7), np.arange(7) < 3, rng(), paired=True)
    with pytest.raises(ValueError, match=r"\[N, N\] of the 6 coders"):
        permutation_test(np.eye(5), np.arange(6) < 3, rng())


def test_pairs_of_the_table_are_the_similarities_of_decoders():
    coders = unrelated(3)
    found = stability(coders, rng=rng())
    assert found.table[0, 2] == found.pairs[1] == matched_cosine(coders[0], coders[2])
    assert np.diagonal(found.table).tolist() == [1, 1, 1]
