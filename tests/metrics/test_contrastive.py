"""Contrast of stories: the bound of a maximum, both modes, the null, and what compares with what."""

import math

import numpy as np
import pytest
from building_blocks import sae_probing_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.contrastive import (
    MEASURES,
    Stories,
    bound,
    contrastive,
    difference,
    permuted_null,
    require_attainable,
    responsible,
    standardised,
)


def drawn(r, m, seed, tokens=None):
    """(token vectors of each story, the same as `Stories`)."""
    rng = np.random.default_rng(seed)
    pairs = [
        tuple(rng.random((tokens or rng.integers(1, 6), m)) * (rng.random(m) < 0.5) for _ in "ab") for _ in range(r)
    ]
    subjects = tuple(f"subject {i // 2}" for i in range(r))
    first, second = (np.stack([pair[side].mean(0) for pair in pairs]) for side in (0, 1))
    n_first, n_second = (np.array([len(pair[side]) for pair in pairs]) for side in (0, 1))
    return pairs, Stories(first, second, n_first, n_second, subjects)


@settings(deadline=None)
@given(st.integers(2, 5000))
def test_a_one_hot_reaches_the_bound_exactly(m):
    one_hot = np.zeros(m)
    one_hot[m // 2] = 7.0
    assert standardised(one_hot).max() == pytest.approx(bound(m), rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_no_vector_exceeds_the_bound(values):
    assert standardised(values).max() <= bound(len(values)) * (1 + 1e-9)


def test_a_threshold_that_no_coder_of_the_width_can_reach_is_refused():
    """A baseline of 47.95 was measured with 32,768 latents. No coder of 1,024 or 2,048 can reach it; it takes 2,302."""
    assert [round(bound(m), 2) for m in (1024, 2048, 32768)] == [31.97, 45.23, 181.01]
    for m in (1024, 2048):
        with pytest.raises(
            ValueError, match=r"cannot be reached: with .* latents the largest score is .* it takes 2,302 latents"
        ):
            require_attainable(47.95, m)
    require_attainable(47.95, 2302)
    require_attainable(bound(64), 64)
    for threshold in (math.nan, math.inf):
        with pytest.raises(ValueError, match="cannot be reached"):
            require_attainable(threshold, 64)


def test_scores_by_hand():
    # two latents: z of (a, b) is +-1/sqrt(2) whatever a > b, so every maximum is (2 - 1) / sqrt(2)
    two = Stories(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]]), np.array([3]), np.array([1]), ("x",))
    assert contrastive(two, "released").values["contrastive"] == pytest.approx([1 / math.sqrt(2)])
    # of one pair, I1 = I2: no independence, and z of equal numbers is 0
    assert contrastive(two, "paper").values["independent"].tolist() == [0]


def test_equal_differences_are_no_spread():
    assert standardised([0.1] * 1000).tolist() == [[0.0] * 1000]  # although the mean of many 0.1 is not 0.1


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_scores_equal_the_slow_form(mode):
    pairs, stories = drawn(7, 9, seed=0)
    wanted = slow.stories([(one.tolist(), two.tolist()) for one, two in pairs], mode)
    found = contrastive(stories, mode)
    assert np.stack([found.values[name] for name in MEASURES], axis=1) == pytest.approx(np.array(wanted))


def test_released_mode_has_no_mean_of_the_data():
    """In the released code I2 stays 0: independence is that of I1 itself, and does not change when other pairs are added."""
    _, stories = drawn(8, 12, seed=1)
    alone = stories.part(slice(0, 3))
    both = [contrastive(part, "released").values["independent"][:3] for part in (alone, stories)]
    assert both[0].tolist() == both[1].tolist()
    paper = [contrastive(part, "paper").values["independent"][:3] for part in (alone, stories)]
    assert paper[0].tolist() != paper[1].tolist()
    with pytest.raises(ValueError, match="'paper' or 'released', got 'papr'"):
        contrastive(stories, "papr")


def test_a_latent_of_framing_beats_the_permuted_null_only_in_independence_of_subjects():
    """One latent fires for bright stories and nothing depends on the subject: pairs across subjects show as much contrast."""
    rng = np.random.default_rng(0)
    noise = rng.random((40, 64)) * 0.1
    first, second = noise.copy(), rng.random((40, 64)) * 0.1
    first[:, 5] += 1
    subjects = tuple(f"s{i % 10}" for i in range(40))
    framed = Stories(first, second, np.full(40, 5), np.full(40, 5), subjects)
    null = permuted_null(framed, rng)["contrastive"]
    assert contrastive(framed).score("contrastive").value == pytest.approx(null.value, rel=0.02)
    # and where latents tell subjects and not framings, the null is above the score
    rows = np.eye(64)[np.arange(40) % 10] + noise
    subject_only = Stories(rows, rows + rng.random((40, 64)) * 0.1, np.full(40, 5), np.full(40, 5), subjects)
    assert permuted_null(subject_only, rng)["contrastive"].ci[0] > contrastive(subject_only).score("contrastive").value


def test_the_null_pairs_stories_of_different_subjects():
    r = 12
    marks = np.repeat(np.arange(4), 3)  # the subject of each pair, written into a latent of its own
    rows = np.eye(6)[marks]
    same = Stories(rows, rows, np.ones(r, int), np.ones(r, int), tuple(f"s{i}" for i in marks))
    assert contrastive(same).score("contrastive").value == 0
    # of two different subjects, two latents of six differ by 1: mean 1/3, std on 5 sqrt(4/15), z = (2/3) / sqrt(4/15)
    null = permuted_null(same, np.random.default_rng(0))["contrastive"]
    assert null.value == pytest.approx((2 / 3) / math.sqrt(4 / 15))
    assert null.stderr == pytest.approx(0)
    assert null.n == r
    with pytest.raises(ValueError, match="7 of 12 pairs"):
        permuted_null(
            Stories(rows, rows, np.ones(r, int), np.ones(r, int), ("a",) * 7 + ("b",) * 5), np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match="at least 2 permutations"):
        permuted_null(same, np.random.default_rng(0), permutations=1)


def test_widths_modes_and_pairs_must_agree():
    _, small = drawn(6, 8, 0)
    _, wide = drawn(6, 16, 0)
    _, fewer = drawn(4, 8, 0)
    base = contrastive(small)
    for other in (contrastive(wide), contrastive(small, "released"), contrastive(fewer)):
        with pytest.raises(ValueError, match="baseline coder of the same width"):
            difference(base, other, "contrastive")
    _, twin = drawn(6, 8, 1)
    found = difference(base, contrastive(twin), "contrastive")
    assert found.value == pytest.approx((base.values["contrastive"] - contrastive(twin).values["contrastive"]).mean())
    assert found.n == 6


def test_score_by_root_is_below_one_at_any_width():
    for m in (16, 256):
        row = np.eye(m)[:1]
        found = contrastive(Stories(row, 0 * row, np.ones(1), np.ones(1), ("x",)), "released")
        assert found.per_root("contrastive").value == pytest.approx((m - 1) / m)


def test_pairs_of_one_subject_are_one_cluster():
    _, stories = drawn(8, 12, 3)
    assert contrastive(stories).score("contrastive").method.endswith("4 clusters")


def test_combined_score_of_the_paper():
    _, stories = drawn(8, 12, 3)
    found = contrastive(stories)
    sum_ = found.score("contrastive").value + found.score("independent").value
    assert found.combined() == pytest.approx(sum_)
    assert found.combined(alpha=0.25, sparsity=8) == pytest.approx(sum_ - 2)


def test_responsible_latents_by_hand():
    # latent 0 differs in stories about a, latent 1 in those about b, latent 2 never
    first = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    zero = np.zeros_like(first)
    found = responsible(Stories(first, zero, np.ones(3), np.ones(3), ("a", "a", "b")), "released")
    assert [found.subjects[i] for i in found.subject[:2]] == ["a", "b"]
    # z of a one-hot of three: 2/sqrt(3) at the one, -1/sqrt(3) elsewhere; the margin is their difference
    assert found.value[:2] == pytest.approx([2 / math.sqrt(3)] * 2)
    assert found.margin == pytest.approx([math.sqrt(3), math.sqrt(3), 0])
    with pytest.raises(ValueError, match="at least two"):
        responsible(Stories(first, zero, np.ones(3), np.ones(3), ("a",) * 3))


def test_results_say_their_mode_and_width():
    _, stories = drawn(6, 8, 0)
    found = contrastive(stories, "released").results({"d_sae": 8}, "release", "id")
    assert found.keys() == {
        "contrastive_score_mean",
        "independent_score_mean",
        "interpretability_score_mean",
        "total_rows",
        "sae_config",
        "sae_release",
        "sae_id",
        "mode",
        "n_latents",
        "attainable_score",
    }
    assert (found["total_rows"], found["mode"], found["n_latents"]) == (6, "released", 8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"second": np.zeros((2, 4))}, "pairs of stories"),
        ({"subjects": ("a",)}, "pairs of stories"),
        ({"first": np.full((2, 3), np.nan)}, "not all finite"),
        ({"n_first": np.array([0, 1])}, "without tokens"),
        ({"first": np.zeros((2, 1)), "second": np.zeros((2, 1))}, "pairs of stories"),
    ],
)
def test_bad_stories_are_refused(change, said):
    whole = {
        "first": np.zeros((2, 3)),
        "second": np.zeros((2, 3)),
        "n_first": np.ones(2),
        "n_second": np.ones(2),
        "subjects": ("a", "b"),
    }
    with pytest.raises(ValueError, match=said):
        Stories(**{**whole, **change})
