"""Recovery of planted features: by hand, against the slow form, and what a random dictionary shows."""

import numpy as np
import pytest
import torch
from building_blocks import sae_stability_slow as slow
from scipy import sparse

from trialplate.metrics.decoder_similarity import chance_level
from trialplate.metrics.dictionary_recovery import code_recovery, recovery
from trialplate.metrics.random_directions import gaussian_rows


def test_by_hand():
    truth = np.eye(5)
    decoder = np.array(
        [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0.2], [0, 1, 0, 0, 0.01], [0, 0, 1, 1, 0], [0, 0, 0, -1, 0], [1, 1, 1, 1, 1.0]]
    )
    found = recovery(truth, decoder)
    # features 0 and 1 are found; 1 twice, which counts once; 3 only with the wrong sign, or mixed with 2
    assert found.found.tolist() == [True, True, False, False, False]
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 6, 2 / 5, 4 / 11))
    assert found.latent[:2].tolist() == [1, 0]
    assert found.uniqueness == pytest.approx(1 / 3)  # of latents 0, 1 and 2 only 1 has a feature of its own
    assert found.cosine[0] == pytest.approx(1 / np.hypot(1, 0.2))
    # |cosines| matched: 0-1, 1-0, 2-3, 3-4, and feature 4 with the last latent
    expected = (1 / np.hypot(1, 0.2) + 1 + np.sqrt(0.5) + 1 + np.sqrt(0.2)) / 5
    assert found.mcc == pytest.approx(expected)


def test_a_perfect_dictionary_in_any_order_and_size():
    truth = gaussian_rows(20, 10, np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(20)
    found = recovery(torch.tensor(truth), 7 * truth[order])
    assert (found.precision, found.recall, found.f1, found.mcc) == pytest.approx((1, 1, 1, 1))
    assert found.uniqueness == 1
    assert order[found.latent].tolist() == list(range(20))
    assert found.pairs.tolist() == [[i, j] for i, j in enumerate(found.latent.tolist())]


def test_fewer_latents_than_features_cannot_recall_all():
    truth = gaussian_rows(20, 30, np.random.default_rng(0))
    found = recovery(truth, truth[5:13])
    assert (found.precision, found.recall, found.f1) == pytest.approx((1, 8 / 20, 16 / 28))
    assert found.mcc == pytest.approx(1)  # and mcc does not show it
    assert found.latent[:5].tolist() == [-1] * 5
    assert len(found.pairs) == 8


def test_a_random_dictionary_recovers_nothing_and_its_mcc_is_the_chance_level():
    rng = np.random.default_rng(0)
    found = recovery(gaussian_rows(48, 32, rng), gaussian_rows(64, 32, rng))
    chance = chance_level(32, (48, 64), "matched_cosine", rng, absolute=True)
    assert (found.precision, found.recall, found.f1, found.uniqueness) == (0, 0, 0, None)
    assert found.mcc == pytest.approx(chance.value, abs=0.03)
    assert chance.value > 0.35  # far from 0: mcc is never read alone


@pytest.mark.parametrize(("g", "m"), [(5, 5), (4, 6), (6, 4)])
def test_agrees_with_the_slow_form(g, m):
    rng = np.random.default_rng(g)
    truth = rng.normal(size=(g, 3))
    decoder = truth[rng.integers(0, g, m)] + 0.3 * rng.normal(size=(m, 3))
    found = recovery(truth, decoder, threshold=0.8)
    precision, recall, uniqueness = slow.slow_recovery(truth.tolist(), decoder.tolist(), 0.8)
    assert (found.precision, found.recall, found.uniqueness) == pytest.approx((precision, recall, uniqueness))


def test_code_recovery_by_hand():
    truth = np.array([[1, 0, 0], [2, 0, 0], [0, 3, 0], [0, 1, 0.0]])
    codes = np.array([[0.5, 0, 9], [0, 0, 9], [0.1, 0, 0], [0, 0, 0.0]])
    found = code_recovery(truth, codes, np.array([[0, 0], [1, 1], [2, 2], [0, 2]]))
    # feature 0 with latent 0: fires at tokens 0 and 2, active at 0 and 1; feature 1 with a latent that never fires; feature 2 is never active
    assert found.pairs.tolist() == [[0, 0], [1, 1], [0, 2]]
    assert found.unseen.tolist() == [[2, 2]]
    assert found.precision == pytest.approx([0.5, 0, 1])
    assert found.recall == pytest.approx([0.5, 0, 1])
    assert found.f1 == pytest.approx([0.5, 0, 1])
    assert found.mean_f1 == pytest.approx(0.5)
    same = code_recovery(torch.tensor(truth), sparse.csr_array(codes), found.pairs)
    assert same.f1 == pytest.approx(found.f1)


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan")])
def test_a_threshold_is_a_cosine(threshold):
    with pytest.raises(ValueError, match=r"0\.9 is usual"):
        recovery(np.eye(3), np.eye(3), threshold)


def test_misuse():
    with pytest.raises(ValueError, match="transposed"):
        recovery(np.eye(3), np.ones((3, 4)))
    with pytest.raises(ValueError, match="cube"):
        recovery(np.eye(9), np.eye(9), largest=8)
    with pytest.raises(ValueError, match="1 of 3 rows"):
        recovery(np.eye(3), np.diag([1, 1, 0]))
    with pytest.raises(ValueError, match="the same tokens, got 3 and 2"):
        code_recovery(np.ones((2, 2)), np.ones((3, 2)), np.array([[0, 0]]))
    with pytest.raises(ValueError, match="none of 1 features is active"):
        code_recovery(np.zeros((2, 2)), np.ones((2, 2)), np.array([[0, 0]]))
    with pytest.raises(ValueError, match=r"\[p, 2\]"):
        code_recovery(np.ones((2, 2)), np.ones((2, 2)), np.array([[0, 2]]))
