"""Similarity of dictionaries: by hand, laws that each obeys, agreement with the slow forms, and chance."""

from functools import partial

import numpy as np
import pytest
import torch
from building_blocks import sae_stability_slow as slow

from trialplate.metrics import cosines as cosines_module
from trialplate.metrics.cosines import cosines, hungarian, nearest
from trialplate.metrics.decoder_similarity import (
    STATISTICS,
    chance_level,
    matched_cosine,
    max_cosines,
    mean_max_cosine,
    mutual_nearest,
    rotated_chance,
    shared_fraction,
    shared_pairs,
    subspace_overlap,
)
from trialplate.metrics.random_directions import expected_max_cosine, gaussian_rows


def rows(m, d, seed=0):
    return np.random.default_rng(seed).normal(size=(m, d))


def degrees(*angles):
    return np.column_stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))])


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_mean_max_is_no_matching():
    # both latents of A, at 10 and 0 degrees, are nearest to the first of B; one to one, one of them has to take the other, 80 degrees off
    A, B = degrees(10, 0), degrees(0, 90)
    c10, s10 = np.cos(np.radians(10)), np.sin(np.radians(10))
    assert max_cosines(A, B) == pytest.approx(((c10 + 1) / 2, (1 + s10) / 2))
    assert mean_max_cosine(A, B) == pytest.approx((c10 + 2 + s10) / 4)
    assert matched_cosine(A, B) == pytest.approx((1 + s10) / 2)


def test_opposite_directions_are_alike_only_in_absolute_value():
    A = rows(5, 8)
    assert mean_max_cosine(A, -A, absolute=True) == pytest.approx(1)
    assert matched_cosine(A, -A, absolute=True) == pytest.approx(1)
    assert matched_cosine(A, -A) < 0.5


def test_the_greedy_choice_is_not_the_best_matching():
    # cosines of 0, 20 degrees with 10, 50: greedy takes 10 and 10, and leaves 50; crossed it would be 20 with 50 and 0 with 10
    A, B = degrees(0, 20), degrees(10, 50)
    pairs = hungarian(A, B)
    assert list(zip(pairs.a, pairs.b, strict=True)) == [(0, 0), (1, 1)]
    assert pairs.cosine == pytest.approx(np.cos(np.radians([10, 30])))


def test_shared_needs_both_encoder_and_decoder():
    D = np.eye(4)
    encoder = D.copy()
    encoder[3] = [0, 0, 0.6, 0.8]  # cosine 0.8 with its own
    turned = np.roll(np.eye(4), 1, axis=0)
    assert shared_fraction(D, D, D, D) == 1
    assert shared_fraction(D, D, encoder, D, at=0.9) == 0.75
    assert shared_pairs(D, D, encoder, D).curve([0, 0.7, 0.8, 0.81, 1]).tolist() == [1, 1, 1, 0.75, 0.75]
    assert shared_fraction(D, D, turned, D) == 0  # whatever is matched, one side is at right angles


def test_encoders_help_to_match_what_decoders_leave_open():
    D, E = np.array([[1.0, 0], [1, 0.1]]), np.eye(2)
    crossed = shared_pairs(E, D, E[::-1], D)  # by decoders alone 0 goes with 0, and no encoder agrees
    assert list(zip(crossed.a, crossed.b, strict=True)) == [(0, 1), (1, 0)]
    assert crossed.encoder == pytest.approx([1, 1])
    assert crossed.decoder == pytest.approx([1 / np.hypot(1, 0.1)] * 2)


def test_weights_say_which_latents_count():
    A, B = np.eye(3), np.eye(3).copy()
    B[2] = [1, 0, 0]  # the third latent is not found again
    everything = ([1, 1, 1], [1, 1, 1])
    assert mean_max_cosine(A, B, weights=everything) == pytest.approx(mean_max_cosine(A, B)) == pytest.approx(5 / 6)
    assert mean_max_cosine(A, B, weights=([1, 1, 0], [1, 1, 0])) == pytest.approx(1)
    assert matched_cosine(A, B) == pytest.approx(2 / 3)
    # pairs (0, 0), (1, 1), (2, 2) weigh 1/4 + 1/3, 1/2 + 1/3, 1/4 + 1/3 of 2
    assert matched_cosine(A, B, weights=([1, 2, 1], [1, 1, 1])) == pytest.approx((1 / 4 + 1 / 3 + 1 / 2 + 1 / 3) / 2)


def test_mutual_nearest_by_hand():
    found = mutual_nearest(
        degrees(0, 10, 90), degrees(4, 95)
    )  # 0 is nearest to 4, and so is 10, which 4 does not return
    assert list(zip(found.pairs.a, found.pairs.b, strict=True)) == [(0, 0), (2, 1)]
    assert found.fraction == 1
    assert found.cosine == pytest.approx((np.cos(np.radians(4)) + np.cos(np.radians(5))) / 2)


def test_subspace_overlap_by_hand():
    A = np.array([[3.0, 0, 0], [0, 1, 0], [1, 0.1, 0]])
    assert subspace_overlap(A, A[:, [0, 2, 1]], 2) == pytest.approx(0.5)  # planes that share one axis
    assert subspace_overlap(A, A, 2) == pytest.approx(1)
    assert subspace_overlap(A, rows(3, 3), 3) == pytest.approx(1)  # all of the space


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", list(STATISTICS))
def test_order_size_and_rotation_of_latents_do_not_matter(name, absolute):
    rng = np.random.default_rng(3)
    A, B = rows(9, 5, 1), rows(9, 5, 2)
    value = STATISTICS[name](A, B, absolute)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert STATISTICS[name](A[rng.permutation(9)], B * rng.uniform(0.1, 9, (9, 1)), absolute) == pytest.approx(value)
    assert STATISTICS[name](A @ turn, B @ turn, absolute) == pytest.approx(value)
    assert STATISTICS[name](B, A, absolute) == pytest.approx(value)
    assert STATISTICS[name](A, A[::-1], absolute) == pytest.approx(1)


def test_a_matching_is_never_above_the_nearest():
    for seed in range(5):
        A, B = rows(12, 6, seed), rows(12, 6, seed + 100)
        assert matched_cosine(A, B) <= min(max_cosines(A, B)) + 1e-12


def test_a_similarity_does_not_leave_its_range_by_rounding():
    A = rows(40, 3).astype(np.float32)
    assert -1 <= matched_cosine(A, -A) <= mean_max_cosine(A, A) <= 1
    assert float(cosines(A, A).max()) <= 1


def test_tiny_and_huge_rows_keep_their_direction():
    A = rows(6, 4).astype(np.float32)
    assert matched_cosine(A * np.float32(1e-30), A * np.float32(1e30)) == pytest.approx(1)


# --- against the slow forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("m_a", "m_b"), [(5, 5), (4, 6), (6, 3)])
def test_agree_with_the_slow_forms(m_a, m_b, absolute):
    A, B = rows(m_a, 4, 1), rows(m_b, 4, 2)
    slow_args = (A.tolist(), B.tolist(), absolute)
    assert mean_max_cosine(A, B, absolute) == pytest.approx(slow.slow_mean_max(*slow_args), abs=1e-12)
    assert matched_cosine(A, B, absolute) == pytest.approx(slow.slow_matched(*slow_args), abs=1e-12)
    found = mutual_nearest(A, B, absolute).pairs
    assert list(zip(found.a, found.b, strict=True)) == slow.slow_mutual(*slow_args)
    enc_a, enc_b = rows(m_a, 3, 3), rows(m_b, 3, 4)
    assert shared_fraction(enc_a, A, enc_b, B, at=0.2) == slow.slow_shared(
        *(side.tolist() for side in (enc_a, A, enc_b, B)), 0.2
    )


def test_blocks_change_nothing(monkeypatch):
    A, B = rows(23, 6, 1), rows(17, 6, 2)
    whole = nearest(A, B)
    monkeypatch.setattr(cosines_module, "_NUMBERS_AT_ONCE", 40)  # few rows of A a block
    for one, two in zip(nearest(A, B), whole, strict=True):
        assert one.row.tolist() == two.row.tolist()
        assert one.cosine == pytest.approx(two.cosine, abs=1e-15)
    of_a, of_b = nearest(np.tile(np.eye(3), (9, 1)), np.eye(3))  # of equal ones the first, in whatever block
    assert of_b.row.tolist() == [0, 1, 2]
    assert of_a.row.tolist() == [0, 1, 2] * 9


def test_tensors_of_any_precision_and_read_only_arrays_are_taken():
    A, B = rows(8, 4, 1), rows(8, 4, 2)
    value = matched_cosine(A, B)
    tensor = torch.tensor(A, dtype=torch.float32, requires_grad=True)
    assert matched_cosine(tensor, torch.tensor(B, dtype=torch.float32)) == pytest.approx(value, abs=1e-6)
    assert matched_cosine(tensor.bfloat16(), B) == pytest.approx(value, abs=0.02)
    A.flags.writeable = False
    assert matched_cosine(A, B) == value


# --- chance ----------------------------------------------------------------------------------------------------------

# d, m, what a published table says of Hungarian absolute cosines
PUBLISHED_MATCHED = [(64, 512, 0.379), (512, 512, 0.137)]


@pytest.mark.parametrize(("d", "m", "published"), PUBLISHED_MATCHED)
def test_published_chance_levels_of_a_matching(d, m, published):
    chance = chance_level(d, m, "matched_cosine", np.random.default_rng(0), absolute=True, draws=3)
    assert chance.value == pytest.approx(published, abs=0.002)
    assert chance.stderr < 0.001
    assert chance.n == 3


def test_chance_of_the_nearest_is_exact_and_of_both_sizes():
    rng = np.random.default_rng(0)
    chance = chance_level(16, (20, 50), "mean_max_cosine", rng)
    assert chance.value == pytest.approx((expected_max_cosine(16, 20) + expected_max_cosine(16, 50)) / 2)
    assert (chance.stderr, chance.method) == (0.0, "exact, Gaussian directions")
    drawn = chance_level(16, (20, 50), mean_max_cosine, rng, draws=40)
    assert drawn.value == pytest.approx(chance.value, abs=4 * drawn.stderr)
    absolute = chance_level(16, 20, "mean_max_cosine", rng, absolute=True)
    assert absolute.value == pytest.approx(expected_max_cosine(16, 20, True))


def test_chance_of_a_subspace_is_its_share_of_the_channels():
    chance = chance_level(24, 30, partial(subspace_overlap, r=6), np.random.default_rng(0), draws=60)
    assert chance.value == pytest.approx(6 / 24, abs=4 * chance.stderr)
    assert chance.stderr < 0.01


@pytest.mark.parametrize(("m_a", "m_b"), [(40, 40), (20, 60)])
def test_half_of_unrelated_latents_are_mutual(m_a, m_b):
    # a cosine is the largest of its row and column with probability 1 / (m_a + m_b - 1), of m_a m_b cosines
    chance = chance_level(16, (m_a, m_b), "mutual_nearest", np.random.default_rng(0), draws=60)
    assert chance.value == pytest.approx(m_a * m_b / (m_a + m_b - 1) / min(m_a, m_b), abs=0.03)


def test_permuting_latents_is_no_null_but_turning_is():
    A = rows(30, 16)
    B = A[np.random.default_rng(1).permutation(30)]
    turned = rotated_chance(A, B, "mutual_nearest", np.random.default_rng(2))
    assert mutual_nearest(A, B).fraction == 1
    assert turned.ci[1] < 0.6
    assert "rotations" in turned.method


def test_turning_keeps_what_a_dictionary_has_in_itself():
    # fifty copies of four directions: as many as four find each other, not as fifty
    A = np.repeat(rows(4, 16, 1), 25, axis=0) + 1e-6 * rows(100, 16, 2)
    turned = rotated_chance(A, A, "mean_max_cosine", np.random.default_rng(3), draws=30)
    assert turned.value == pytest.approx(expected_max_cosine(16, 4), abs=0.06)
    assert turned.value < expected_max_cosine(16, 100) - 0.2


# --- what is refused -------------------------------------------------------------------------------------------------


def test_fewer_latents_than_channels_is_not_transposed():
    # 64 latents of 128 channels: chance is that of 64 directions in 128 channels, 0.23, and not of 128 in 64, 0.35
    A, B = (gaussian_rows(64, 128, np.random.default_rng(seed)) for seed in (0, 1))
    assert mean_max_cosine(A, B, absolute=True) == pytest.approx(expected_max_cosine(128, 64, True), abs=0.02)
    assert expected_max_cosine(64, 128, True) - expected_max_cosine(128, 64, True) > 0.1
    for measure in (mean_max_cosine, matched_cosine, mutual_nearest, partial(subspace_overlap, r=3)):
        with pytest.raises(ValueError, match=r"transposed|one width"):
            measure(A, B.T)


@pytest.mark.parametrize("measure", [mean_max_cosine, matched_cosine, mutual_nearest, partial(subspace_overlap, r=2)])
def test_dead_latents_without_a_direction_are_refused(measure):
    A, B = rows(6, 4), rows(6, 4, 1)
    B[[2, 4]] = 0
    with pytest.raises(ValueError, match=r"2 of 6 rows .* first 2.*rows\[alive\]"):
        measure(A, B)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_refused(bad):
    A = rows(4, 3)
    A[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity in row 1"):
        mean_max_cosine(A, rows(4, 3))


def test_a_large_matching_says_what_it_costs():
    with pytest.raises(ValueError, match=r"cube.*mean_max_cosine"):
        matched_cosine(rows(5, 3), rows(9, 3), largest=8)
    with pytest.raises(ValueError, match="cube"):
        shared_pairs(*(rows(9, 3, seed) for seed in range(4)), largest=8)


def test_encoder_and_decoder_have_a_row_for_each_latent():
    D = rows(6, 4)
    with pytest.raises(ValueError, match=r"coder b has 4 rows of encoder and 6 of decoder.*W_enc\.T"):
        shared_fraction(D, D, D.T, D)


@pytest.mark.parametrize("wrong", [[1, 1], [1, -1, 1], [0, 0, 0], [1, np.nan, 1]])
def test_weights_are_weights(wrong):
    with pytest.raises(ValueError, match="weights of the second dictionary"):
        mean_max_cosine(np.eye(3), np.eye(3), weights=([1, 1, 1], wrong))


def test_other_misuse():
    with pytest.raises(ValueError, match="one of mean_max_cosine"):
        chance_level(4, 4, "pwmcc", np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least 2 draws"):
        chance_level(4, 4, "matched_cosine", np.random.default_rng(0), draws=1)
    with pytest.raises(ValueError, match="got r=5"):
        subspace_overlap(rows(6, 4), rows(6, 4), 5)
    with pytest.raises(ValueError, match="got shape"):
        mean_max_cosine(np.zeros((0, 3)), rows(3, 3))
