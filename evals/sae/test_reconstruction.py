"""How much of the activations a coder gives back, with how many latents, on texts that it never saw; its random twin stands beside.

Explained variance is about the mean of the rows; the definition is part of the measurement. Budget: 14 CPU seconds.
"""

import pytest
from evals.domain_texts import APPLIES, separators

pytestmark = APPLIES


def test_reconstruction(coder, random_coder, held_out, about, record):
    """Explained variance, cosine and length of what is given back, and the number of active latents."""
    from trialplate.sae.evaluate import EV_DEFINITION, core_scores

    ours, twin = core_scores(coder, held_out), core_scores(random_coder, held_out)
    record("explained_variance", ours.ev, null=("random coder", twin.ev), definition=EV_DEFINITION, **about)
    record("cosine", ours.cosine, null=("random coder", twin.cosine), **about)
    record("l2_ratio", ours.l2_ratio, null=("random coder", twin.l2_ratio), **about)
    record("l0", ours.l0, null=("random coder", twin.l0), **about)
    assert ours.n_tokens == held_out.n_rows


def test_latents(coder, random_coder, held_out, about, record):
    """How many latents fire at all, and how many fire on more than every tenth token."""
    from trialplate.sae.evaluate import core_scores

    ours, twin = core_scores(coder, held_out), core_scores(random_coder, held_out)
    n = ours.n_tokens
    record("alive_latents", ours.alive_frac, n=n, null=("random coder", twin.alive_frac), **about)
    record("dense_latents", ours.frac_above_10pct, n=n, null=("random coder", twin.frac_above_10pct), **about)
    assert int(ours.firing.fired.sum()) == round(ours.l0.value * n)


def test_training_function(coder, l0_in_training, rows_at, about, record):
    """What a coder does at inference against what it was trained to do: active latents, and explained variance on rows of training and on held-out ones."""
    from trialplate.sae.evaluate import core_scores

    c = coder.config
    rows, held_out = rows_at(c.site_in, c.site_out if c.is_transcoder else None)
    seen, unseen = core_scores(coder, rows), core_scores(coder, held_out)
    wanted = seen.l0.value if l0_in_training is None else l0_in_training
    record("l0_gap", unseen.l0.value - wanted, n=unseen.n_tokens, **about)
    record("ev_gap", seen.ev.value - unseen.ev.value, n=unseen.n_tokens, **about)
    assert rows.digest != held_out.digest


@pytest.mark.requires_sae(0)
def test_coders_that_know_nothing(model, site, rows_at, domains, record):
    """Where the answer is known: a coder that always writes the mean explains nothing, and one that writes zeros recovers nothing."""
    import torch

    from trialplate.activations.sites import resolve
    from trialplate.sae.coder import Coder
    from trialplate.sae.config import CoderConfig
    from trialplate.sae.evaluate import core_scores
    from trialplate.sae.preservation import preservation

    held_out = rows_at(site)[1]
    silent = Coder(CoderConfig("relu", held_out.d_in, 4, site_in=site, site_out=site)).requires_grad_(False)
    texts = [rows[0] for rows in domains["held_out"].values()]
    zeros = preservation(model, resolve(model, site), silent, texts, skip=separators(model))
    if zeros.site_matters:
        record("ce_loss_score", zeros.ce_loss_score, coder="zeros", kind="known")
        record("kl_div_score", zeros.kl_score, coder="zeros", kind="known")
    silent.b_dec.copy_(held_out.rows(torch.arange(held_out.n_rows))[0].double().mean(0))
    record("explained_variance", core_scores(silent, held_out).ev, coder="mean", kind="known", definition="about_mean")
    assert held_out.n_rows > 1
