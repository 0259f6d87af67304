"""Core scores of a coder on rows: agreement with the slow form, intervals over documents, and the control that learned nothing."""

import math

import numpy as np
import pytest
import torch
from building_blocks import sae_metrics_slow as slow
from tests.sae.coders import drawn, identity, random_coder

from trialplate.metrics.statistics import mean
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.evaluate import core_scores
from trialplate.sae.latent_table import latent_table
from trialplate.sae.source import from_tensor

ARCHITECTURES = ["relu", "topk", "batchtopk", "jumprelu", "gated", "routed"]


def a_coder(architecture, **more):
    return random_coder(architecture, **({"n_experts": 3} if architecture == "routed" else {}), **more)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_agreement_with_the_slow_form(architecture):
    coder, x = a_coder(architecture), drawn(50, 8) + 0.5
    found = core_scores(coder, x, batch=16)
    f, y = coder.encode(x), coder(x).double().tolist()
    rows, code = x.double().tolist(), f.dense().double().tolist()
    wanted = slow.slow_reconstruction(rows, y) | slow.slow_code(code)
    del wanted["mse_element"]
    estimates = found.estimates()
    assert {name: estimates[name].value for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert found.ev.value == pytest.approx(slow.slow_explained_variance([rows], [y], "about_mean"), rel=1e-5)
    assert found.density.tolist() == pytest.approx(slow.slow_density(code))
    assert found.frac_above_1pct == slow.slow_share_above(slow.slow_density(code), 0.01)
    assert found.frac_above_10pct == slow.slow_share_above(slow.slow_density(code), 0.1)
    assert found.dead_frac == 1 - found.alive_frac
    assert found.n_tokens == 50


@pytest.mark.parametrize("architecture", ["relu", "topk", "jumprelu"])
def test_batches_change_nothing(architecture):
    coder, x = a_coder(architecture), drawn(101, 8)
    one, two = (core_scores(coder, x, batch=batch) for batch in (7, 1000))
    for name, estimate in one.estimates().items():
        other = two.estimates()[name]
        assert (estimate.value, estimate.stderr) == pytest.approx((other.value, other.stderr), rel=1e-5), name
    assert one.firing.fired.tolist() == two.firing.fired.tolist()


def test_a_constant_added_to_activations_and_b_dec_changes_nothing():
    coder, x, constant = random_coder("topk"), drawn(300, 8), torch.full((8,), 4.0)
    moved = random_coder("topk")
    moved.b_dec += constant
    here, there = core_scores(coder, x), core_scores(moved, x + constant)
    assert there.ev.value == pytest.approx(here.ev.value, rel=1e-5)
    assert there.l0.value == here.l0.value
    assert there.mse.value == pytest.approx(here.mse.value, rel=1e-5)
    zero = (scores.sums.explained_variance("about_zero") for scores in (here, there))
    assert abs(next(zero) - next(zero)) > 0.1


def test_identity_and_mean_are_the_ends_of_the_scale():
    x = drawn(200, 8).double().float() + 3
    assert core_scores(identity(8), x).ev.value == 1
    silent = Coder(CoderConfig("relu", 8, 5))
    with torch.no_grad():
        silent.b_dec.copy_(x.mean(0))
        silent.b_enc.fill_(-1e6)
    found = core_scores(silent, x)
    assert found.ev.value == pytest.approx(0, abs=1e-6)
    assert found.dead_frac == 1
    assert found.l0.value == 0


def test_what_is_undefined_is_left_out_and_not_zero():
    """A coder that writes zeros has no bias, one without active latents no share of negative ones."""
    found = core_scores(Coder(CoderConfig("relu", 8, 5)), drawn(20, 8))
    assert found.bias is None
    assert found.neg_latent_frac is None
    assert set(found.estimates()) == {"ev", "mse", "l0", "l1", "cosine", "l2_in", "l2_out", "l2_ratio"}
    assert all(math.isfinite(e.value) for e in found.estimates().values())


def test_signed_latents_are_active_and_have_a_size():
    """Counting f > 0 and adding signs up would say that a coder of negative latents does nothing."""
    coder = Coder(CoderConfig("topk", 2, 3, k=2, signed=True))
    with torch.no_grad():
        coder.encoder.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.0], [-9.0, 0.0]]))
    found = core_scores(coder, torch.tensor([[-1.0, 0.0], [-3.0, 1.0]]))
    # of the first token 9 and -1 stay, of the second 27 and -3
    assert found.l0.value == 2
    assert found.l1.value == (10 + 30) / 2
    assert found.neg_latent_frac.value == 0.5
    assert found.density.tolist() == [1, 0, 1]


def test_a_zero_among_the_kept_entries_is_not_active():
    """TopK keeps k entries of a token with fewer positive pre-activations; L0 counts what is not zero."""
    coder = Coder(CoderConfig("topk", 2, 3, k=2))
    with torch.no_grad():
        coder.encoder.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-2.0, 0.0]]))
    found = core_scores(coder, torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert found.l0.value == 1
    assert found.alive_frac == pytest.approx(1 / 3)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_intervals_are_over_documents():
    """Rows of a document resemble each other. Taken as independent, 40 copies of 25 rows look like 1000."""
    coder = random_coder("relu")
    x = drawn(25, 8).repeat_interleave(40, 0)
    honest = core_scores(coder, x, clusters=torch.arange(25).repeat_interleave(40))
    naive = core_scores(coder, x[torch.randperm(1000, generator=torch.Generator().manual_seed(0))])
    for name in ("ev", "l0", "mse", "cosine", "bias"):
        assert honest.estimates()[name].value == pytest.approx(naive.estimates()[name].value, rel=1e-5)
        assert honest.estimates()[name].stderr > 4 * naive.estimates()[name].stderr
    assert honest.l0.n == 25


def test_intervals_of_l0_are_those_of_a_mean_over_documents_of_one_size():
    coder, x = random_coder("relu"), drawn(60, 8)
    found = core_scores(coder, x, clusters=np.arange(60) % 12)
    by_document = coder.encode(x).active().double().view(5, 12).mean(0)
    wanted = mean(by_document)
    assert (found.l0.value, found.l0.stderr, *found.l0.ci) == pytest.approx((wanted.value, wanted.stderr, *wanted.ci))


def test_the_interval_of_explained_variance_covers_what_new_documents_show():
    """Over many draws of documents, the spread of EV is the standard error that one draw reports."""
    coder, found = random_coder("relu"), []
    for seed in range(60):
        offsets = 2 * drawn(12, 8, seed=1000 + seed)
        x = (drawn(12, 6, 8, seed=seed) + offsets[:, None]).flatten(0, 1)
        found.append(core_scores(coder, x, clusters=np.repeat(np.arange(12), 6)).ev)
    spread = np.std([e.value for e in found], ddof=1)
    assert np.mean([e.stderr for e in found]) == pytest.approx(spread, rel=0.3)


def test_one_document_has_no_interval():
    found = core_scores(random_coder(), drawn(10, 8), clusters=np.zeros(10, int))
    assert found.ev.ci is None
    assert found.l0.stderr is None


def test_without_documents_rows_stand_in_blocks():
    assert core_scores(random_coder(), drawn(10, 8)).l0.n == 10
    coder, pairs = random_coder("relu"), drawn(1024, 8).repeat_interleave(2, 0)
    found, wanted = core_scores(coder, pairs), core_scores(coder, pairs, clusters=np.arange(2048) // 2)
    assert found.l0.n == 1024
    assert found.l0.stderr == wanted.l0.stderr  # neighbours stand in one block


# --- transcoders and sources -----------------------------------------------------------------------------------------


def test_a_transcoder_is_judged_by_what_it_should_have_written():
    coder = random_coder("relu", d_in=8, d_out=5, centre_input=False, skip=True)
    coder.W_skip.copy_(drawn(5, 8, seed=9))
    x, y = drawn(40, 8), drawn(40, 5, seed=1)
    found = core_scores(coder, x, y)
    made = coder(x).double().tolist()
    assert found.ev.value == pytest.approx(
        slow.slow_explained_variance([y.double().tolist()], [made], "about_mean"), rel=1e-5
    )
    with pytest.raises(ValueError, match="wanted y, what it should have written"):
        core_scores(coder, x)


def test_a_source_gives_rows_targets_and_documents():
    coder = random_coder("relu", d_in=8, d_out=5, centre_input=False)
    x, y, documents = drawn(40, 8), drawn(40, 5, seed=1), torch.arange(40) // 5
    one = core_scores(coder, from_tensor(x, y, name="test", documents=documents))
    two = core_scores(coder, x, y, clusters=documents)
    assert one.ev == two.ev
    assert one.ev.n == 8


def test_messages():
    coder, x = random_coder(), drawn(6, 8)
    with pytest.raises(ValueError, match="no rows to judge"):
        core_scores(coder, x[:0])
    with pytest.raises(ValueError, match="got 6 and 5 rows"):
        core_scores(coder, x, x[:5])
    with pytest.raises(ValueError, match=r"document of each of 6 rows, got labels of shape \(5,\)"):
        core_scores(coder, x, clusters=range(5))
    with pytest.raises(ValueError, match="at least one row, got batch=0"):
        core_scores(coder, x, batch=0)
    with pytest.raises(ValueError, match="a source has its own targets"):
        core_scores(coder, from_tensor(x, name="test"), x)
    with pytest.raises(CoderError, match=r"wanted activations \[n, 8\]"):
        core_scores(coder, drawn(6, 7))
    with pytest.raises(ValueError, match="is undefined"):
        _ = core_scores(coder, torch.ones(6, 8)).ev
    with pytest.raises(ValueError, match="1 of 6 tokens have activations"):
        core_scores(coder, x.index_fill(0, torch.tensor([2]), math.nan))


# --- latents one by one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_table_of_latents(architecture):
    coder, x, documents = a_coder(architecture), drawn(50, 8), np.arange(50) // 10
    found = latent_table(coder, x, clusters=documents, batch=7)
    code = coder.encode(x).dense().double().tolist()
    assert found.firing.values.tolist() == pytest.approx(slow.slow_density(code))
    wanted = slow.slow_consistent_activation(code, documents.tolist())
    assert [None if math.isnan(v) else v for v in found.consistent_activation] == wanted
    assert found.nearest_decoder.tolist() == pytest.approx(
        slow.slow_nearest_cosine(coder.W_dec.double().tolist()), abs=1e-6
    )
    assert found.encoder_decoder_cosine == pytest.approx(np.ones(24), abs=1e-6)  # tied when initialised
    with pytest.raises(ValueError, match="wanted the document of every row"):
        latent_table(coder, x)
