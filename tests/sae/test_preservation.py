"""What is left of a model's behaviour: exact ends of the scale, agreement with the slow form, special tokens, what is undefined."""

import numpy as np
import pytest
import torch
from building_blocks import sae_metrics_slow as slow
from tests.activations.families import tiny
from tests.sae.coders import identity, random_coder
from tests.sae.spoken import BEGIN, spoken

from trialplate.activations.capture import captured
from trialplate.activations.likelihood import likelihoods, texts_of
from trialplate.activations.sites import resolve
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.preservation import preservation
from trialplate.sae.random_twin import random_twin
from trialplate.sae.splice import Splice
from trialplate.sae.token_losses import token_losses

D = 32


@pytest.fixture(scope="module")
def model():
    """Weights large enough that predictions are not flat."""
    return tiny("gpt_neox", initializer_range=0.25)


@pytest.fixture(scope="module")
def documents(model):
    return spoken(model)


def by_hand(model, documents, changed):
    """(nats, kl) of every token of every document but its first, one document at a time."""
    found = []
    for ids in documents:
        tokens = torch.tensor([ids])
        plain = model.logits(tokens)[0].double().tolist()
        with changed.running():
            logits = model.logits(tokens)[0].double().tolist()
        for i, target in enumerate(ids[1:]):
            found.append(
                (slow.slow_nats(plain[i], target), slow.slow_nats(logits[i], target), slow.slow_kl(plain[i], logits[i]))
            )
    return np.array(found)


def test_a_perfect_coder_loses_nothing(model, documents):
    found = preservation(model, resolve(model, "L1.resid_post"), identity(D), documents)
    assert found.ce_loss_score.value == 1
    assert found.kl_score.value == 1
    assert found.ce_sae == found.ce_clean
    assert found.kl_sae.value == 0
    assert found.ce_increase.value == 0
    assert found.ce_zero.value > found.ce_clean.value + 0.1
    assert found.n_tokens == sum(len(ids) - 1 for ids in documents)


def test_a_coder_that_writes_zeros_preserves_nothing(model, documents):
    """Also where special tokens are left alone: zeros stand where the coder would."""
    for skip in ((), (BEGIN,)):
        found = preservation(
            model, resolve(model, "L1.resid_post"), Coder(CoderConfig("relu", D, 4)), documents, skip=skip
        )
        assert found.ce_loss_score.value == 0
        assert found.kl_score.value == 0


def test_zeros_at_all_positions_flatter_a_coder(model, documents):
    point, coder = resolve(model, "L0.resid_post"), Coder(CoderConfig("relu", D, 4))
    kept, everywhere = (
        preservation(model, point, coder, documents, skip=[BEGIN], zero_at=where) for where in ("kept", "all")
    )
    assert kept.kl_score.value == 0
    assert everywhere.kl_score.value != 0
    assert everywhere.ce_sae == kept.ce_sae


def test_agreement_with_the_slow_form(model, documents):
    point, coder = resolve(model, "L1.mlp_out"), random_coder("topk", D, 64)
    found = preservation(model, point, coder, documents)
    clean, sae, kl_sae = by_hand(model, documents, Splice(model, point, coder)).mean(0)
    _, zero, kl_zero = by_hand(model, documents, Splice(model, point, mode="zero")).mean(0)
    values = [e.value for e in (found.ce_clean, found.ce_sae, found.ce_zero, found.kl_sae, found.kl_zero)]
    assert values == pytest.approx([clean, sae, zero, kl_sae, kl_zero], rel=1e-4)
    assert found.ce_loss_score.value == pytest.approx(slow.slow_recovered(clean, sae, zero), rel=1e-3)
    assert found.kl_score.value == pytest.approx(1 - kl_sae / kl_zero, rel=1e-3)


def test_losses_are_those_of_the_likelihood_sums(model, documents):
    subjects = [None, Splice(model, resolve(model, "L1.resid_post"), random_coder("topk", D, 64))]
    found = token_losses(model, documents, subjects, positions=40)
    sums = likelihoods(model, texts_of(model, documents), subjects, divergence=True)
    for i in (0, 1):
        assert found.by_document(found.nats)[:, i] == pytest.approx(sums[i].nats, rel=1e-5)
        assert found.by_document(found.kl)[:, i] == pytest.approx(sums[i].kl, rel=1e-4)


def test_special_tokens_are_neither_replaced_nor_scored(model, documents):
    """Position 0 holds the beginning of the text; its prediction is not counted, and what stands there is not replaced."""
    point, coder = resolve(model, "L1.resid_post"), random_coder("topk", D, 64)
    found = preservation(model, point, coder, documents, skip=[BEGIN])
    scored = np.concatenate([np.arange(len(ids) - 1) > 0 for ids in documents])
    assert found.n_tokens == scored.sum()
    wanted = by_hand(model, documents, Splice(model, point, coder, skip=[BEGIN]))[scored].mean(0)
    assert [found.ce_clean.value, found.ce_sae.value, found.kl_sae.value] == pytest.approx(wanted, rel=1e-4)
    replaced = by_hand(model, documents, Splice(model, point, coder))[scored].mean(0)
    assert abs(replaced[1] - wanted[1]) > 1e-3  # it would matter


def test_skipped_ids_within_a_text_are_read(model, documents):
    """Leaving out a token is not deleting it: what comes after still sees it."""
    middle = documents[0][5]
    found = token_losses(model, documents[:1], [None], skip=[middle])
    plain = token_losses(model, documents[:1], [None])
    kept = np.array(documents[0][:-1]) != middle
    assert 0 < kept.sum() < kept.size
    assert found.nats[0] == pytest.approx(plain.nats[0][kept], rel=1e-5)


def test_long_documents_are_read_in_windows(model):
    ids = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(0)).tolist()
    found = preservation(model, resolve(model, "L1.resid_post"), identity(D), [ids, ids[:90]])
    assert found.n_tokens == 149 + 89
    assert len(found.tokens) == 2


def test_intervals_are_over_documents(model, documents):
    point, coder = resolve(model, "L1.mlp_out"), random_coder("topk", D, 64)
    once, twice = (preservation(model, point, coder, texts) for texts in (documents, documents * 4))
    assert once.ce_sae.n == len(documents)
    assert once.ce_loss_score.ci[0] < once.ce_loss_score.value < once.ce_loss_score.ci[1]
    assert twice.ce_loss_score.value == pytest.approx(once.ce_loss_score.value, rel=1e-5)
    assert twice.ce_loss_score.stderr < once.ce_loss_score.stderr
    one = preservation(model, point, coder, documents[:1])
    assert one.kl_score.ci is None


def test_the_random_control_preserves_less_than_the_identity(model, documents):
    point = resolve(model, "L1.resid_post")
    rows = captured(model, torch.tensor(documents[:1]), [point])[point.name][0]
    twin = random_twin(identity(D), rows, torch.Generator().manual_seed(0))
    assert preservation(model, point, twin, documents).kl_score.value < 0.9


def test_a_transcoder_is_put_where_it_writes(model, documents):
    coder = random_coder("relu", D, 48, centre_input=False, skip=True, site_in="L1.mlp_in", site_out="L1.mlp_out")
    found = preservation(model, resolve(model, "L1.mlp_in"), coder, documents)
    at_out = preservation(model, resolve(model, "L1.mlp_out"), identity(D), documents)
    assert found.ce_zero == at_out.ce_zero
    assert found.ce_sae != found.ce_clean
    assert found.site_matters


# --- what is undefined -----------------------------------------------------------------------------------------------


def test_no_loss_to_recover_is_not_a_score(documents):
    """Where zeros cost nothing, (CE_zero - CE_sae) / (CE_zero - CE_clean) divides by zero, or by what has the wrong sign."""
    model = tiny("gpt_neox", initializer_range=0.25)
    layer = model.module.gpt_neox.layers[1].mlp.dense_4h_to_h
    layer.weight.zero_(), layer.bias.zero_()
    found = preservation(model, resolve(model, "L1.mlp_out"), random_coder("topk", D, 64), documents)
    assert not found.site_matters
    with pytest.raises(
        ValueError,
        match=r"ce_loss_score is undefined: with zeros at the site the loss is (\S+) nats a token, without \1,",
    ):
        _ = found.ce_loss_score
    with pytest.raises(ValueError, match="kl_score is undefined: zeros at the site change no prediction"):
        _ = found.kl_score
    assert found.ce_increase.value != 0  # what can be said is still said


def test_messages(model, documents):
    point, coder = resolve(model, "L1.resid_post"), identity(D)
    with pytest.raises(ValueError, match="no documents"):
        preservation(model, point, coder, [])
    with pytest.raises(ValueError, match='"kept" or at "all", got zero_at=\'none\''):
        preservation(model, point, coder, documents, zero_at="none")
    with pytest.raises(ValueError, match="every position of 1 documents holds an id to skip"):
        preservation(model, point, coder, [[5, 5, 5]], skip=[5])
    with pytest.raises(ValueError, match="at least one subject"):
        token_losses(model, documents, [])
    broken = identity(D)
    broken.b_dec.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"tokens have no finite loss under the mode replace at L1\.resid_post"):
        preservation(model, point, broken, documents)
