"""Frequencies of an embedding: a planted circuit is seen, unrelated tokens show the null, and conjugates never cancel."""

import numpy as np
import pytest
import torch
from building_blocks.sae_stability_slow import slow_frequency_shares, slow_share_of_old_formula

from trialplate.metrics.fourier import (
    explained_by,
    fourier_basis,
    frequency_shares,
    model_subspace,
    permuted_share,
    subspace_shares,
    top_frequencies,
)
from trialplate.metrics.random_directions import gaussian_rows


def waves(n, frequencies, d=12, noise=0.0, seed=0):
    """An embedding that is these frequencies, each in a plane of its own, and noise."""
    rng, t = np.random.default_rng(seed), np.arange(n)
    columns = [wave(2 * np.pi * k * t / n) for k in frequencies for wave in (np.cos, np.sin)]
    return np.column_stack(columns) @ rng.normal(size=(len(columns), d)) + noise * rng.normal(size=(n, d))


@pytest.mark.parametrize("n", [12, 13, 113])
def test_all_frequencies_are_an_orthonormal_basis_of_everything_but_the_mean(n):
    B = fourier_basis(n, np.arange(1, n // 2 + 1))
    assert B.shape == (n, n - 1)
    gram = B.T @ B
    assert gram == pytest.approx(np.eye(n - 1), abs=1e-12)
    assert B.sum(axis=0) == pytest.approx(np.zeros(n - 1), abs=1e-10)


def test_columns_are_cosine_and_sine_in_the_order_asked_for():
    B = fourier_basis(8, [3, 4, 1])
    t = np.arange(8)
    assert B.shape == (8, 5)  # the sine of frequency 4 is zero at all of 8 tokens
    assert B[:, 0] == pytest.approx(np.cos(2 * np.pi * 3 * t / 8) / 2)
    assert B[:, 1] == pytest.approx(np.sin(2 * np.pi * 3 * t / 8) / 2)
    assert B[:, 2] == pytest.approx((-1.0) ** t / np.sqrt(8))
    assert B[:, 3] == pytest.approx(np.cos(2 * np.pi * t / 8) / 2)


def test_a_planted_frequency_is_explained():
    E = waves(113, [17], noise=0.02)
    assert top_frequencies(E, 1).tolist() == [17]
    assert explained_by(E, fourier_basis(113, [17])) > 0.99
    assert explained_by(E, fourier_basis(113, [16, 18])) < 0.01


def test_conjugate_frequencies_do_not_cancel():
    # the old formula lists 5 and 18 of 23 as two frequencies; twice the projection leaves -E, and nothing seems explained
    E = waves(23, [5], noise=0.01)
    assert slow_share_of_old_formula(E.tolist(), 2) == pytest.approx(0, abs=1e-3)
    assert slow_share_of_old_formula(E.tolist(), 5) == pytest.approx(0, abs=1e-2)
    assert explained_by(E, fourier_basis(23, top_frequencies(E, 1))) > 0.99
    with pytest.raises(ValueError, match="k above 11 is 23 - k again"):
        fourier_basis(23, [5, 18])
    doubled = np.repeat(fourier_basis(23, [5]), 2, axis=1)
    with pytest.raises(ValueError, match=r"orthonormal.*beside n - k"):
        explained_by(E, doubled)


def test_the_mean_is_no_frequency():
    E = waves(20, [3]) + 1000
    assert explained_by(E, fourier_basis(20, [3])) == pytest.approx(1)
    assert frequency_shares(E)[2] == pytest.approx(1)
    with pytest.raises(ValueError, match="0 is the mean"):
        fourier_basis(20, [0, 3])


@pytest.mark.parametrize("n", [10, 11])
def test_shares_add_up_and_agree_with_the_slow_form_and_with_projections(n):
    E = np.random.default_rng(n).normal(size=(n, 3))
    shares = frequency_shares(E)
    assert shares.sum() == pytest.approx(1)
    assert shares == pytest.approx(slow_frequency_shares(E.tolist()))
    assert shares == pytest.approx([explained_by(E, fourier_basis(n, [k])) for k in range(1, n // 2 + 1)])
    assert explained_by(E, fourier_basis(n, [2, 4])) == pytest.approx(shares[1] + shares[3])


def test_unrelated_tokens_show_the_rank_of_the_basis():
    # chosen beforehand: r / (n - 1) on average, near r / n
    rng, n = np.random.default_rng(0), 41
    B = fourier_basis(n, [2, 9, 14])
    found = [explained_by(rng.normal(size=(n, 4)), B) for _ in range(300)]
    assert np.mean(found) == pytest.approx(6 / 40, abs=4 * np.std(found) / np.sqrt(300))
    assert np.std(found) / np.sqrt(300) < 0.003


def test_the_null_chooses_its_frequencies_too():
    rng = np.random.default_rng(0)
    E = rng.normal(size=(41, 4))
    found = permuted_share(E, 3, rng, draws=100)
    assert found.null.mean() > 6 / 40 + 0.05
    assert found.p_value > 0.05
    assert found.share == pytest.approx(explained_by(E, fourier_basis(41, top_frequencies(E, 3))))
    planted = permuted_share(waves(41, [3, 7, 15], noise=0.3), 3, rng, draws=99)
    assert planted.p_value == 1 / 100
    assert planted.share - planted.null.mean() > 0.4


def test_p_values_of_unrelated_tokens_are_uniform():
    rng = np.random.default_rng(3)
    p = [permuted_share(rng.normal(size=(17, 3)), 2, rng, draws=19).p_value for _ in range(150)]
    assert 0.42 < np.mean(p) < 0.6
    assert np.mean(np.array(p) <= 0.1) < 0.18


def test_latents_that_read_a_frequency_lie_in_its_plane_whatever_their_phase():
    E = waves(31, [4, 9], d=10, noise=0.0)
    plane = model_subspace(E, fourier_basis(31, [4]))
    assert plane.shape == (10, 2)
    phases = np.random.default_rng(1).normal(size=(6, 2))
    assert subspace_shares(phases @ plane.T, plane) == pytest.approx(np.ones(6))
    outside = np.linalg.svd(plane, full_matrices=True)[0][:, 2:]
    assert subspace_shares(outside.T, plane) == pytest.approx(np.zeros(8), abs=1e-12)
    mixed = plane[:, 0] + outside[:, 0]
    assert subspace_shares(mixed[None], plane) == pytest.approx([0.5])


def test_random_latents_show_the_share_of_the_subspace():
    plane = model_subspace(waves(31, [4, 9], d=20), fourier_basis(31, [4, 9]))
    found = subspace_shares(torch.tensor(gaussian_rows(4000, 20, np.random.default_rng(0))), plane)
    assert found.mean() == pytest.approx(4 / 20, abs=0.01)


def test_a_subspace_has_no_direction_of_rounding():
    one_wave = np.outer(np.cos(2 * np.pi * 5 * np.arange(24) / 24), np.arange(1.0, 8))  # no sine
    assert model_subspace(one_wave, fourier_basis(24, [5])).shape == (7, 1)
    with pytest.raises(ValueError, match="holds nothing of these frequencies"):
        model_subspace(one_wave, fourier_basis(24, [6]))


def test_misuse():
    E = waves(20, [3])
    with pytest.raises(ValueError, match="same embedding"):
        explained_by(np.full((5, 3), 0.1), fourier_basis(5, [1]))
    with pytest.raises(ValueError, match="finite"):
        frequency_shares(np.where(E > 1, np.nan, E))
    with pytest.raises(ValueError, match="stands once"):
        fourier_basis(20, [3, 3])
    with pytest.raises(ValueError, match="whole frequencies"):
        fourier_basis(20, [])
    with pytest.raises(ValueError, match="whole frequencies"):
        fourier_basis(20, [1.5])
    with pytest.raises(ValueError, match="10 frequencies besides the mean"):
        top_frequencies(E, 11)
    with pytest.raises(ValueError, match="a row for each of 20 tokens"):
        explained_by(E, fourier_basis(21, [3]))
    with pytest.raises(ValueError, match="nothing is transposed"):
        subspace_shares(np.ones((4, 12)), np.eye(4)[:, :2])
    with pytest.raises(ValueError, match="wants draws"):
        permuted_share(E, 2, np.random.default_rng(0), draws=0)
