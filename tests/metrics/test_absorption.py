"""Absorption: words by hand, planted absorption, a coder without any, and what is left out."""

import numpy as np
import pytest
from building_blocks import sae_probing_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.absorption import (
    Rules,
    absorption,
    absorption_fraction,
    f1,
    full_absorption,
    projections,
    split_latents,
)
from trialplate.metrics.logistic import Probe

PARENT = np.array([1.0, 0.0, 0.0])
S = np.sqrt(0.5)


def word(f, x, decoder, main=(0,), v=PARENT):
    """(full, fraction) of one word."""
    q, c = projections([f], decoder, v)
    p = np.array([float(np.dot(x, v))])
    return bool(full_absorption([f], q, c, p, main)[0]), float(absorption_fraction(q, c, p, main)[0])


def test_words_by_hand():
    decoder = [[1, 0, 0], [S, S, 0], [0, 1, 0]]  # the parent, a child that carries it along, a child alone
    assert word([1, 0, 1], [1, 1, 0], decoder) == (False, 0)  # main on, M = p
    assert word([0, 1 / S, 0], [1, 1, 0], decoder) == (True, 1)  # main off, the child's latent adds all of p
    # main half on: M = 0.5, A = 0.5, both of p = 1
    assert word([0.5, 0.5 / S, 0], [1, 1, 0], decoder) == (False, pytest.approx(0.5))
    # A = 0.3 of p is too little, M or no M
    assert word([0, 0.3 / S, 0], [1, 1, 0], decoder) == (False, 0)
    # more than what is missing is not counted: A = 2 but p - M = 0.5
    assert word([0.5, 2 / S, 0], [1, 1, 0], decoder) == (False, pytest.approx(0.5))


def test_an_absorbing_latent_points_along_the_parent():
    """A latent of cosine 0.05 to the probe may absorb fully (0.025 is enough), and counts for no fraction (0.1 is needed)."""
    decoder = [[1, 0, 0], [0.05, np.sqrt(1 - 0.05**2), 0]]
    assert word([0, 10, 0][:2], [0.5, 10, 0], decoder) == (True, 0)
    decoder[1] = [0.02, np.sqrt(1 - 0.02**2), 0]
    assert word([0, 25], [0.5, 25, 0], decoder) == (False, 0)


def test_a_word_against_the_probe_absorbs_nothing():
    decoder = [[1, 0, 0], [S, S, 0]]
    assert word([0, 1], [-1, 0, 0], decoder) == (False, 0)
    assert word([0, 1], [0, 0, 0], decoder) == (False, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_words_equal_the_slow_form(seed):
    rng = np.random.default_rng(seed)
    decoder = rng.normal(size=(6, 3)) * rng.choice([0.0, 1.0, 2.0], size=(6, 1))
    f = rng.choice([0.0, 0.0, 0.5, 1.5], size=6) * rng.random(6)
    v = rng.normal(size=3)
    v /= np.linalg.norm(v)
    x = f @ decoder + rng.normal(size=3) * 0.3
    main = tuple(rng.choice(6, size=2, replace=False).tolist())
    assert word(f, x, decoder, main, v) == pytest.approx(
        slow.word(f.tolist(), x.tolist(), decoder.tolist(), v.tolist(), main)
    )


def test_rescaling_a_latent_changes_nothing():
    decoder = np.array([[1, 0, 0], [S, S, 0]])
    assert word([0.5, 0.4, 0][:2], [1, 1, 0], decoder) == word([0.5 / 8, 0.4, 0][:2], [1, 1, 0], decoder * [[8], [1]])


def test_f1_by_hand():
    assert f1([True, True, False], [True, False, True]) == pytest.approx(2 / 4)  # one hit, one false alarm, one miss
    assert f1([False, False], [True, False]) == 0
    with pytest.raises(ValueError, match="0 positive"):
        f1([False, False], [False, False])


def test_a_latent_that_is_split_has_two_main_latents():
    rng = np.random.default_rng(0)
    y = rng.random(400) < 0.4
    half = rng.random(400) < 0.5
    f = np.stack([y & half, y & ~half, rng.random(400) < 0.4], axis=1).astype(float)
    split, scores = split_latents(f[:200], y[:200], f[200:], y[200:])
    assert set(split) == {0, 1}
    assert len(scores) == 3  # a third latent was tried and brought nothing
    assert scores[1] == 1
    # a growth that nothing reaches leaves one latent
    assert len(split_latents(f[:200], y[:200], f[200:], y[200:], Rules(f1_growth=0.9))[0]) == 1


def hierarchy(n, seed):
    """Tokens of a parent (feature 0) alone or with one of two rare children (1, 2), and of an unrelated feature 3; [n, 4] codes, [n, 5] activations."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, size=n, p=[0.46, 0.014, 0.014, 0.512])  # alone, child 1, child 2, unrelated
    codes = np.zeros((n, 4))
    codes[kind <= 2, 0] = 1
    codes[kind == 1, 1] = codes[kind == 2, 2] = codes[kind == 3, 3] = 1
    basis = np.eye(5)[:4]
    return kind, codes, codes @ basis + 0.01 * rng.normal(size=(n, 5)), basis


def scores(codes, absorbed):
    """Latents and decoder of a coder by hand: the parent's latent is silent on the children named, whose latents carry it along."""
    f, decoder = codes.copy(), np.eye(5)[:4]
    for child in absorbed:
        f[codes[:, child] > 0, 0] = 0
        decoder[child] = (np.eye(5)[0] + np.eye(5)[child]) * S
        f[:, child] /= S
    return f, decoder


@pytest.mark.parametrize("absorbed", [(), (1,), (1, 2)])
def test_planted_absorption_is_found_and_nothing_else(absorbed):
    kind, codes, x, basis = hierarchy(1200, 0)
    f, decoder = scores(codes, absorbed)
    probes = {"parent": Probe(np.append(basis[0][:4], 0), -0.5)}
    labels = kind <= 2
    found = absorption(f[:600], {"parent": labels[:600]}, f[600:], {"parent": labels[600:]}, x[600:], decoder, probes)
    parent = found.parents["parent"]
    assert parent.split == (0,)
    planted = np.isin(kind[600:][parent.words], absorbed)
    assert (parent.full == planted).all()
    assert parent.fractions == pytest.approx(planted.astype(float), abs=0.05)
    assert found.full.value == pytest.approx(planted.mean())


def test_an_absorbed_parent_scores_one_and_a_clean_one_zero():
    """Test words are all of the absorbed child: nothing dilutes the score."""
    kind, codes, x, basis = hierarchy(4000, 1)
    labels = kind <= 2
    test = np.isin(kind, (1, 3)) & (np.arange(4000) >= 2000)
    for absorbed, score in (((1,), 1), ((), 0)):
        f, decoder = scores(codes, absorbed)
        probes = {"parent": Probe(np.append(basis[0][:4], 0), -0.5)}
        # the sparse probe is judged on words of every kind, so the parent's latent is its main one; then only child 1 is looked at
        assert split_latents(f[:2000], labels[:2000], f[2000:], labels[2000:])[0] == (0,)
        found = absorption(
            f[:2000],
            {"parent": labels[:2000]},
            f[test],
            {"parent": labels[test]},
            x[test],
            decoder,
            probes,
            Rules(max_k=1),
        )
        assert found.full.value == score
        assert found.fraction.value == pytest.approx(score, abs=0.02)


def test_a_frequent_child_is_a_split_and_no_absorption():
    """A child whose latent raises F1 by more than 0.03 is one of the main latents: so the definition has it."""
    rng = np.random.default_rng(0)
    y, child = np.arange(1000) % 2 == 0, rng.random(1000) < 0.3
    f = np.stack([y & ~child, y & child], axis=1).astype(float)
    assert set(split_latents(f[:500], y[:500], f[500:], y[500:])[0]) == {0, 1}


def test_parents_that_cannot_be_judged_are_named():
    kind, codes, x, basis = hierarchy(400, 2)
    f, decoder = scores(codes, ())
    y = {"parent": kind <= 2, "rare": np.arange(400) % 200 < 5, "unseen by its probe": kind == 3}
    probes = {name: Probe(np.append(basis[0][:4], 0), -0.5) for name in y}
    args = f[:200], {k: v[:200] for k, v in y.items()}, f[200:], {k: v[200:] for k, v in y.items()}, x[200:], decoder
    found = absorption(*args, probes, Rules(min_words=10))
    assert list(found.parents) == ["parent"]
    assert found.left_out["rare"] == "5 words, wanted 10"
    assert "wanted 0.6" in found.left_out["unseen by its probe"]
    with pytest.raises(ValueError, match=r"none of 3 parents: parent: .* words, wanted 1000"):
        absorption(*args, probes, Rules(min_words=1000))


def test_saebench_entries():
    kind, codes, x, basis = hierarchy(1200, 3)
    f, decoder = scores(codes, (1,))
    y = {"parent": kind <= 2, "unrelated": kind == 3}
    probes = {"parent": Probe(np.append(basis[0][:4], 0), -0.5), "unrelated": Probe(np.append(basis[3][:4], 0), -0.5)}
    found = absorption(
        f[:600],
        {k: v[:600] for k, v in y.items()},
        f[600:],
        {k: v[600:] for k, v in y.items()},
        x[600:],
        decoder,
        probes,
    ).saebench()
    share = float((kind[600:] == 1).sum() / (kind[600:] <= 2).sum())
    assert found["mean_full_absorption_score"] == pytest.approx(share / 2)
    assert found["std_dev_full_absorption_score"] == pytest.approx(share / np.sqrt(2))  # of share and 0, on n - 1
    assert found["mean_num_split_features"] == 1
    assert len(found) == 6


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="go together"):
        absorption(np.zeros((4, 3)), {}, np.zeros((4, 3)), {}, np.zeros((4, 2)), np.zeros((3, 5)), {})
    with pytest.raises(ValueError, match="length 0"):
        projections(np.zeros((1, 2)), np.eye(2), [0, 0])
