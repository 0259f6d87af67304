"""What is left of the model's predictions where a coder stands in for its activations. 1 is everything, 0 is no better than zeros.

Budget: 5 CPU seconds.
"""

import pytest
from evals.domain_texts import APPLIES, separators

pytestmark = APPLIES


@pytest.fixture
def texts(domains):
    """Held-out texts of all domains."""
    return [row for rows in domains["held_out"].values() for row in rows[:3]]


def test_predictions(coder, random_coder, model, texts, about, record):
    """Recovered loss and divergence, beside the random twin in the same place."""
    from trialplate.activations.sites import resolve
    from trialplate.sae.preservation import preservation

    point, skip = resolve(model, coder.config.site_in), separators(model)
    ours, twin = (preservation(model, point, c, texts, skip=skip) for c in (coder, random_coder))
    record("ce_increase", ours.ce_increase, null=("random coder", twin.ce_increase), **about)
    if ours.site_matters:  # otherwise there is nothing to recover, and gates on the scores find nothing
        record("ce_loss_score", ours.ce_loss_score, null=("random coder", twin.ce_loss_score), **about)
        record("kl_div_score", ours.kl_score, null=("random coder", twin.kl_score), **about)
    assert ours.n_tokens == twin.n_tokens


def test_error_kept(coder, model, texts, about, record):
    """With its error added back and no latent changed, a coder in place changes nothing."""
    import torch

    from trialplate.activations.sites import resolve
    from trialplate.sae.splice import spliced

    point, ids = resolve(model, coder.config.site_in), torch.tensor([texts[0]]).to(model.device)
    with spliced(model, point, coder, "error_kept"):
        kept = model.logits(ids)
    with spliced(model, point, coder, "replace"):
        replaced = model.logits(ids)
    plain = model.logits(ids)
    gap = float((kept - plain).abs().max())
    record("kept_error_gap", gap, n=ids.numel(), **about)
    assert not torch.equal(replaced, plain)
