"""What any causal language model must do whatever it has learnt: see only the past, ignore padding and company, decode as it reads.

Gaps are the largest change of a logit; the scale of the logits is recorded with them as a parameter-free reference. Budget: 3 CPU seconds.
"""

import pytest

from trialplate.models import checks


def test_finite(model, record, rng):
    """No NaN and no infinity among weights and among the outputs of every module."""
    counts = checks.finite_counts(model, rng)
    record("non_finite", counts.weights, n=counts.n_weights, where="weights")
    record("non_finite", counts.activations, n=counts.n_activations, where="activations")
    assert counts.n_weights > 0
    assert counts.n_activations > 0


def test_causality(model, record, rng):
    """Changing a token leaves every logit before it alone."""
    record(
        "causality_gap",
        checks.causality_gap(model, rng),
        n=4,
        null=("scale of the logits", checks.logit_scale(model, rng)),
    )
    assert model.max_length >= 16


def test_padding(model, record, rng):
    """Padding on either side, behind a mask, leaves the logits of real tokens alone."""
    gap = checks.padding_gap(model, rng)
    scale = checks.logit_scale(model, rng)
    for side in ("left", "right"):
        record("padding_gap", getattr(gap, side), n=4, null=("scale of the logits", scale), side=side)
    assert scale > 0


@pytest.mark.parametrize("check", ["batch_gap", "cache_gap", "repeat_gap"])
def test_same_logits(check, model, record, rng):
    """Alone or in a batch; read at once or decoded in chunks through the cache; the first time or the second."""
    gap = getattr(checks, check)(model, rng)
    record(check, gap, n=4, null=("scale of the logits", checks.logit_scale(model, rng)))
    assert gap >= 0
