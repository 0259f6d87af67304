"""SCR and TPP: erasure by hand, with the coder's error kept, and the mark that keeps them out of gates."""

import numpy as np
import pytest
from building_blocks import sae_probing_slow as slow

from trialplate.metrics.erasure import GATE, Texts, effects, largest, scr, tpp


def test_these_scores_never_gate():
    assert GATE == "never"
    texts, labels, decoder = two_by_two(200, 0)
    assert scr(texts, labels, texts, labels, decoder, (2,)).gate == "never"
    classes = np.where(labels[0], "a", "b").tolist()
    assert tpp(texts, classes, texts, classes, decoder, np.random.default_rng(0), (2,)).gate == "never"


def test_effects_by_hand():
    f = [[1.0, 0.0], [3.0, 1.0], [0.0, 4.0], [0.0, 2.0]]
    y = np.array([True, True, False, False])
    decoder = [[1.0, 1.0], [0.0, 2.0]]
    # means differ by 2 and -2.5; <w, d> = 3 and 4
    assert effects(f, y, [1.0, 2.0], decoder).tolist() == [6, -10]
    assert effects(f, y, [1.0, 2.0], decoder, clamp=True).tolist() == [6, 0]


def test_latents_without_effect_are_never_erased():
    assert largest(np.array([0.0, 3.0, -1.0, 0.0, 5.0]), 2).tolist() == [4, 1]
    assert largest(np.array([0.0, 3.0, -1.0, 0.0, 5.0]), 100).tolist() == [4, 1, 2]
    assert largest(np.zeros(3), 2).tolist() == []


def test_erasure_keeps_the_error_of_the_coder():
    """What a text's mean becomes is the mean of what its tokens become, each with the part that the coder never wrote."""
    rng = np.random.default_rng(0)
    tokens, codes, decoder = rng.normal(size=(5, 3)), rng.random((5, 4)), rng.normal(size=(4, 3))
    found = Texts(tokens.mean(0)[None], codes.mean(0)[None]).without(np.array([1, 3]), decoder)
    assert found[0] == pytest.approx(slow.erased_mean(tokens.tolist(), codes.tolist(), decoder.tolist(), {1, 3}))
    # nothing erased is the activation itself, although this coder reconstructs nothing of it
    assert Texts(tokens, codes).without(np.array([], dtype=int), decoder) == pytest.approx(tokens)


def two_by_two(n, seed, noise=0.4):
    """The wanted attribute is +-1 along channel 0, the spurious one +-2 along channel 1; each value of each has a latent of its own, and
    the noise is what the coder does not write."""
    wanted, spurious = (np.arange(n) // 2) % 2 == 0, np.arange(n) % 2 == 0
    f = np.stack([wanted, ~wanted, spurious, ~spurious], axis=1).astype(float)
    decoder = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
    rng = np.random.default_rng(seed)
    return Texts(f @ decoder + noise * rng.normal(size=(n, 2)), f), (wanted, spurious), decoder


def test_erasing_the_spurious_latents_recovers_the_clean_probe():
    train, labels, decoder = two_by_two(400, 0)
    test, test_labels, _ = two_by_two(400, 1)
    found = scr(train, labels, test, test_labels, decoder, (1, 2, 50))
    assert found.wanted.original < found.wanted.clean  # the biased probe leans on the spurious attribute
    assert found.wanted.original < found.spurious.original
    assert found.score is found.wanted.by_n
    assert 0.6 < found.score[2].value < 1  # the noise of channel 1, which the coder did not write, stays
    assert 0 < found.score[1].value < found.score[2].value
    assert found.score[2].ci[0] > 0.6
    assert found.score[50].value == found.score[2].value  # the other latents do not differ, so they are left alone


def test_scr_by_hand():
    """One test text of each combination, no noise."""
    train, labels, decoder = two_by_two(400, 0, noise=0.0)
    test, test_labels, _ = two_by_two(4, 1, noise=0.0)
    found = scr(train, labels, test, test_labels, decoder, (1, 2))
    # the biased probe follows channel 1: right on two of four texts for wanted, on all for spurious
    assert (found.wanted.original, found.wanted.clean) == (0.5, 1.0)
    # one latent: where the spurious attribute is true channel 1 is 0 now, so that wanted decides; where it is false nothing changed: 3 of 4
    assert found.score[1].value == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert found.score[2].value == pytest.approx(1)
    assert found.spurious.original == found.spurious.clean == 1.0
    assert found.spurious.by_n[1].value == 0  # no gap, nothing to remove
    assert "no gap" in found.spurious.by_n[1].method
    assert found.spurious.by_n[1].ci is None


def test_every_combination_is_needed():
    texts, (wanted, spurious), decoder = two_by_two(40, 0)
    kept = ~(wanted & ~spurious)
    some = Texts(texts.x[kept], texts.f[kept])
    with pytest.raises(ValueError, match=r"test: texts of all four .* got \[10, 10, 0, 10\]"):
        scr(texts, (wanted, spurious), some, (wanted[kept], spurious[kept]), decoder)
    with pytest.raises(ValueError, match="two booleans"):
        scr(texts, (wanted.astype(int), spurious), some, (wanted, spurious), decoder)


def classes(n, seed):
    """Three classes, each along a channel and a latent of its own."""
    rng = np.random.default_rng(seed)
    names = [("a", "b", "c")[i % 3] for i in range(n)]
    hot = np.eye(3)[np.arange(n) % 3] * 3
    x = hot + 0.3 * rng.normal(size=(n, 3))
    return Texts(x, hot), names, np.eye(3)


def test_one_latent_a_class_is_a_perfect_perturbation():
    train, names, decoder = classes(300, 0)
    test, test_names, _ = classes(300, 1)
    found = tpp(train, names, test, test_names, decoder, np.random.default_rng(0), (1,))
    assert found.intended[1].value == pytest.approx(0.5, abs=0.05)  # from sure to chance
    assert abs(found.unintended[1].value) < 0.3
    assert found.total[1].value == pytest.approx(found.intended[1].value - found.unintended[1].value)
    assert found.total[1].n == 3


def test_nothing_to_erase_drops_nothing():
    train, names, decoder = classes(90, 0)
    dead = Texts(train.x, np.zeros_like(train.f))
    found = tpp(dead, names, dead, names, decoder, np.random.default_rng(0), (2, 500))
    assert {e.value for by_n in (found.total, found.intended, found.unintended) for e in by_n.values()} == {0}
    with pytest.raises(ValueError, match="at least two"):
        tpp(train, ["a"] * 90, train, ["a"] * 90, decoder, np.random.default_rng(0))


def test_saebench_entries():
    texts, labels, decoder = two_by_two(80, 0)
    assert set(scr(texts, labels, texts, labels, decoder, (2, 5)).saebench()) == {
        f"{name}_threshold_{n}" for name in ("scr_dir1", "scr_dir2", "scr_metric") for n in (2, 5)
    }
    texts, names, decoder = classes(60, 0)
    assert set(tpp(texts, names, texts, names, decoder, np.random.default_rng(0), (2,)).saebench()) == {
        "tpp_threshold_2_total_metric",
        "tpp_threshold_2_intended_diff_only",
        "tpp_threshold_2_unintended_diff_only",
    }
