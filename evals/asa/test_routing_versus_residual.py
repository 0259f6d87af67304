"""Routing against residual: whether the Paris margin follows where a layer reads, or what the stream carries past it.

What is measured: slopes of the margin against steps in a layer's read logits, and against steps in the stream behind the block while all
routing from there on is held as it was; both along the gradient of the other prompts, in units of the relative norm of what is moved, from
each arm's own baseline. What is not claimed: that one of them carries the model. The share of routing depends on the unit and is recorded
with the random twin's, whose routing has learnt nothing. See `trialplate.routing.comparison` for the method and what it corrects.
Budget: 3 CPU seconds.
"""

import pytest
import torch

from trialplate.metrics.estimate import Estimate
from trialplate.routing import encode_prompts, estimate_layers, null_bands, prompt_set, routing_versus_residual

pytestmark = [
    pytest.mark.requires_architecture("asm"),
    pytest.mark.requires_tokens("single_token_capitals"),
]


@pytest.fixture
def compare(model):
    """compare(lm): both arms at every layer, on the prompts of the embedded corpus."""
    prompts = encode_prompts(
        prompt_set("embedded"), model.tokenizer.encode, vocab_size=model.vocab_rows, max_seq_len=model.max_length, device=model.device
    )  # fmt: skip
    return lambda lm: routing_versus_residual(
        lm, prompts.ids, prompts.mask, prompts.target_id, prompts.rival_id, is_control=prompts.is_control
    )


def test_routing_versus_residual(asm, asm_twin, compare, record, seed):
    """Slopes of both arms and the share of routing, layer by layer, with bootstrap intervals over prompts; nulls: the random twin."""
    ours, twins = compare(asm), compare(asm_twin)
    bands = {(b.layer, b.quantity): as_null(b, ours) for b in null_bands([twins], seed)}
    for estimate, layer in zip(estimate_layers(ours, seed), ours.layers, strict=True):
        place = {"layer": layer.layer, "match": ours.settings.match}
        record("margin_slope", estimate.routing, arm="routing", null=bands[layer.layer, "routing"], **place)
        record(
            "margin_slope",
            estimate.residual,
            arm="residual, routing held",
            null=bands[layer.layer, "residual"],
            **place,
        )
        record(
            "margin_slope", estimate.residual_free, arm="residual", null=("routing held", estimate.residual), **place
        )
        record("routing_share", estimate.routing_share, null=bands[layer.layer, "routing_share"], **place)
        assert moved(layer.routing) > 0
        assert moved(layer.residual) > 0
    starts = [arm.margins[0] for layer in ours.layers for arm in (layer.routing, layer.residual, layer.residual_free)]
    record("baseline_gap", (torch.stack(starts) - ours.base).abs().max(), n=len(starts), null=("itself", 0.0))


def moved(arm):
    """Largest change of a margin from the arm's own start."""
    return (arm.margins - arm.margins[0]).abs().max()


def as_null(band, compared):
    """What random weights give: the mean and where 95 % of bootstrapped means lie."""
    n = int((~compared.is_control).sum())
    return "random_weights", Estimate(band.mean, n, (band.high - band.low) / 3.92, (band.low, band.high))
