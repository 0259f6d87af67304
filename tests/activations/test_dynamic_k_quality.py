"""What leaving out units costs: equal to the slow form, paired by document, and on a trained model far below what random units cost."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny

from trialplate.activations import likelihood, one_percent
from trialplate.activations.dynamic_k import sparsified
from trialplate.activations.errors import CaptureError
from trialplate.activations.likelihood import likelihoods, texts_of
from trialplate.activations.one_percent import cett_ppl1, topk_ppl1
from trialplate.activations.quality import KEPT, percent_change, quality, worst_rise
from trialplate.activations.rules import Cett, RandomK, TopK
from trialplate.activations.sites import down_projection
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec
from trialplate.tasks.corpus import heldout_documents


@pytest.fixture(scope="module")
def trained():
    """The embedded model with 40 texts that its training did not contain, each after the beginning token."""
    model = load(ModelSpec("embedded:neox-tiny"))
    return model, [[0, *model.tokenizer.encode(text)[:60]] for text in heldout_documents(40, seed=1)]


@pytest.fixture(scope="module")
def swept(trained):
    """TopK at the usual shares, and random units at the same shares."""
    model, documents = trained
    generator = torch.Generator().manual_seed(0)
    found = quality(model, documents, [TopK(k) for k in KEPT] + [RandomK(k, generator) for k in KEPT])
    return found[: len(KEPT)], found[len(KEPT) :]


TEXTS = [ids(1, n, seed=n)[0].tolist() for n in (9, 2, 30, 17)]


# --- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_sums_are_those_of_the_slow_form(family, slow):
    """Four texts of unlike length, one far longer than the window of 12; Gemma's logits are not its head's."""
    model, rule = tiny(family), TopK(0.1)
    found = quality(model, TEXTS, [rule, TopK(0.5)], max_length=12, positions=40)[0]
    for number, text in enumerate(TEXTS):
        dense = sparse = divergence = 0.0
        for start in range(0, len(text) - 1, 12):  # windows overlap by the token that is given
            part = text[start : start + 13]
            plain = model.logits(torch.tensor([part[:-1]]))[0].tolist()
            with sparsified(model, rule):
                masked = model.logits(torch.tensor([part[:-1]]))[0].tolist()
            costs = slow.slow_costs(plain, masked, part)
            dense, sparse, divergence = dense + costs[0], sparse + costs[1], divergence + costs[2]
        assert found.nats[number] == pytest.approx(sparse, rel=1e-5)
        whole = likelihoods(model, texts_of(model, [text], max_length=12), [None])[0]
        assert whole.nats[0] == pytest.approx(dense, rel=1e-5)
        alone = quality(model, [text], [rule], max_length=12)[0]
        assert alone.kl_to_dense.value * (len(text) - 1) == pytest.approx(divergence, rel=1e-3, abs=1e-7)
    assert found.n_tokens.tolist() == [8, 1, 29, 16]


def test_slices_and_batches_do_not_matter(monkeypatch):
    model = tiny("gpt_neox")
    rules = [TopK(0.1), Cett(0.2)]
    one = quality(model, TEXTS, rules, positions=1)
    monkeypatch.setattr(likelihood, "_LOGITS_AT_ONCE", 3 * model.vocab_rows)
    other = quality(model, TEXTS, rules, positions=10_000)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.nats, b.nats, rtol=1e-5)
        assert a.kl_to_dense.value == pytest.approx(b.kl_to_dense.value, rel=1e-3)
        assert a.kept_by_layer == b.kept_by_layer


def test_logits_of_the_dense_model_are_formed_once_for_all_rules(monkeypatch):
    model, seen = tiny("gpt_neox"), []
    monkeypatch.setattr(model, "head", lambda hidden, head=model.head: seen.append(len(hidden)) or head(hidden))
    quality(model, TEXTS, [TopK(0.1), TopK(0.2), TopK(0.3)])
    assert sum(seen) == 4 * sum(len(text) - 1 for text in TEXTS)


def test_numbers_follow_from_sums_by_document():
    model = tiny("gpt_neox")
    n_bytes = [20, 5, 61, 40]
    found = quality(model, TEXTS, [TopK(0.2)], layers=[1], n_bytes=n_bytes)[0]
    dense = likelihoods(model, texts_of(model, TEXTS), [None])[0].nats
    assert found.perplexity.value == pytest.approx(math.exp(found.nats.sum() / 54))
    assert found.dppl_pct.value == pytest.approx(100 * (math.exp((found.nats - dense).sum() / 54) - 1))
    assert found.bits_per_byte.value == pytest.approx(found.nats.sum() / math.log(2) / 126)
    assert (found.rule, found.asked, found.scope, found.perplexity.n) == ("topk", 0.2, "L1", 4)
    assert found.kept_by_layer == {1: 13 / 64}
    assert quality(model, TEXTS, [TopK(0.2)], layers=[2, 0])[0].scope == "L0+L2"


def test_percent_change_by_hand():
    """Nats rise by ln 1.1 a token in every document: 10 %, without any spread, however unlike the documents are."""
    n_tokens = np.array([10.0, 20.0, 5.0])
    dense = np.array([7.0, 50.0, 1.0])
    found = percent_change(dense + n_tokens * math.log(1.1), dense, n_tokens)
    assert found.value == pytest.approx(10)
    assert found.stderr == pytest.approx(0, abs=1e-9)
    assert found.ci == pytest.approx((10, 10))


def test_one_document_has_values_without_intervals():
    found = quality(tiny("gpt_neox"), TEXTS[:1], [TopK(0.5)])[0]
    assert found.perplexity.ci is None
    assert found.dppl_pct.ci is None
    assert found.kl_to_dense.value > 0


# --- a trained model -------------------------------------------------------------------------------------------------


def test_with_all_units_nothing_changes(swept):
    for found in (swept[0][-1], swept[1][-1]):
        assert found.kept_share == 1
        assert found.dppl_pct.value == 0
        assert found.kl_to_dense.value == 0


def test_perplexity_falls_with_what_is_kept_within_noise(swept):
    assert worst_rise(swept[0]) <= 2
    divergences = [found.kl_to_dense.value for found in swept[0]]
    assert divergences == sorted(divergences, reverse=True)
    assert [found.kept_share for found in swept[0]] == pytest.approx(KEPT, abs=1 / 512)


def test_random_units_cost_far_more(swept):
    """The null of every claim about a rule: as many units, drawn by lot. At all shares below 0.9 their intervals lie apart."""
    for largest, random in zip(*swept, strict=True):
        assert largest.kept_share == random.kept_share
        if largest.asked < 0.9:
            assert random.kl_to_dense.ci[0] > 10 * largest.kl_to_dense.ci[1]
            assert random.dppl_pct.ci[0] > largest.dppl_pct.ci[1]


def test_topk_ppl1_is_where_the_bound_is_broken(trained):
    model, documents = trained
    found = topk_ppl1(model, documents, np.random.default_rng(0))
    n = round(found.asked * 512)
    assert found.value.value == found.asked == found.kept_share == n / 512
    at, below = quality(model, documents, [TopK(n / 512), TopK((n - 1) / 512)])
    assert at.dppl_pct.value <= 1 < below.dppl_pct.value
    assert found.value.ci[0] < found.value.value < found.value.ci[1]
    assert found.scope == "all"
    assert len(found.tried) <= 10  # log2 512, and the end


def test_cett_ppl1_is_where_the_bound_is_broken(trained):
    model, documents = trained
    found = cett_ppl1(model, documents[:20], np.random.default_rng(0), layers=[1], steps=16)
    at, above = quality(model, documents[:20], [Cett(found.asked), Cett(found.asked + 1 / 16)], layers=[1])
    assert at.dppl_pct.value <= 1 < above.dppl_pct.value
    assert found.value.value == 1 - at.kept_share
    assert found.scope == "L1"


# --- the search ------------------------------------------------------------------------------------------------------


def test_units_that_write_nothing_are_not_needed():
    """Of 64 units 5 write anything, so 5 / 64 of them give the dense model; at t = 0 all others are left out."""
    model = tiny("gpt_neox", num_hidden_layers=1, initializer_range=0.5)
    down_projection(model, 0).rows[5:] = 0
    found = topk_ppl1(model, TEXTS, np.random.default_rng(0))
    assert found.asked <= 5 / 64
    assert quality(model, TEXTS, [TopK(5 / 64)])[0].kl_to_dense.value == pytest.approx(0, abs=1e-6)
    assert quality(model, TEXTS, [Cett(0.0)])[0].kept_share <= 5 / 64


@pytest.mark.parametrize("needed", [1, 37, 64])
def test_bisection_finds_the_planted_number_of_units(monkeypatch, needed):
    """With fewer than `needed` of 64 units every token costs a nat more."""

    def planted(model, texts, subjects):
        dear = [subject is not None and subject.rule.k * 64 < needed for subject in subjects]
        return [likelihood.Likelihood(texts.n_tokens * (2.0 if is_dear else 1.0)) for is_dear in dear]

    monkeypatch.setattr(one_percent, "likelihoods", planted)
    monkeypatch.setattr(one_percent.Sparsified, "kept_share", property(lambda self: self.rule.k))
    found = topk_ppl1(tiny("gpt_neox"), TEXTS, np.random.default_rng(0))
    assert found.value.value == found.kept_share == needed / 64
    if needed < 64:  # all documents agree on where the bound is broken
        assert found.value.ci == pytest.approx((needed / 64,) * 2, abs=1 / 64)


def test_crossing_by_hand():
    """Places 0.1, 0.5, 1 with the dense model last. Rises 3 %, 0, 0: the bound of 1 % is crossed two thirds of the way from 0.1 to 0.5."""
    places = np.array([0.1, 0.5, 1.0])
    rises = np.array([[0.03, 0.0, 0.0], [0.03, 0.02, 0.0], [0.005, 0.0, 0.0], [0.0, 0.04, 0.0]])
    crossing = one_percent._crossing(places, rises, 0.01)
    # second: the crossing nearest the dense model, half way from 0.5 to 1; third: none; fourth: it is what breaks last on the way down that counts
    assert crossing == pytest.approx([0.1 + 0.4 * 2 / 3, 0.75, 0.1, 0.5 + 0.5 * 3 / 4])


def test_worst_rise_by_hand():
    """From share 0.2 to 0.5 nats fall by 1 and 3 a document, from 0.5 to 1 they rise by 1 and 3: mean 2, s = sqrt 2, standard error 1."""
    base = quality(tiny("gpt_neox"), TEXTS[:2], [TopK(0.5)])[0]

    def at(share, *nats):
        return dataclasses.replace(base, kept_share=share, nats=np.array(nats), n_tokens=np.ones(2))

    falls, rises = [at(0.2, 9.0, 9.0), at(0.5, 8.0, 6.0)], at(1.0, 9.0, 9.0)
    assert worst_rise(falls) == pytest.approx(-2)
    assert worst_rise([rises, *falls]) == pytest.approx(2)
    assert worst_rise([at(0.2, 5.0, 5.0), at(0.5, 6.0, 6.0)]) == math.inf
    assert worst_rise([at(0.2, 5.0, 5.0), at(0.5, 5.0, 5.0)]) == 0


# --- messages --------------------------------------------------------------------------------------------------------


def test_messages():
    model, rules = tiny("gpt_neox"), [TopK(0.5)]
    with pytest.raises(ValueError, match="tiny-gpt_neox: no documents, so there is nothing to score"):
        quality(model, [], rules)
    with pytest.raises(
        ValueError, match=r"document 1 has 1 tokens \(1 such of 2\); the first token is given, so at least 2"
    ):
        quality(model, [[1, 2], [3]], rules)
    with pytest.raises(ValueError, match="a window holds at least 1 token, got max_length=0"):
        quality(model, TEXTS, rules, max_length=0)
    with pytest.raises(ValueError, match="no rule was given"):
        quality(model, TEXTS, [])
    with pytest.raises(ValueError, match="wanted the bytes of 4 documents, got 1 numbers"):
        quality(model, TEXTS, rules, n_bytes=[3])
    with pytest.raises(ValueError, match="the rise that is allowed is a share above 0, got 0"):
        topk_ppl1(model, TEXTS, np.random.default_rng(0), max_rise=0)
    with pytest.raises(ValueError, match="at least 2 steps, got 1"):
        cett_ppl1(model, TEXTS, np.random.default_rng(0), steps=1)
    with pytest.raises(ValueError, match="wanted several shares of one rule and scope"):
        worst_rise(quality(model, TEXTS, [TopK(0.5), Cett(0.1)]))
    with pytest.raises(ValueError, match="None stands first among the subjects"):
        likelihoods(model, texts_of(model, TEXTS), [], divergence=True)


def test_a_model_without_finite_likelihood_is_refused():
    model = tiny("gpt_neox")
    model.module.gpt_neox.final_layer_norm.weight[0] = float("nan")
    with pytest.raises(CaptureError, match=r"documents \[0, 1, 2, 3\] have no finite likelihood under the dense model"):
        quality(model, TEXTS, [TopK(0.5)])
