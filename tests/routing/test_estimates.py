"""From slopes to statements: intervals, the null band, and the sentence of the finding."""

import numpy as np
import pytest
import torch

from trialplate.metrics.estimate import Estimate
from trialplate.routing.comparison import ArmResult, ComparisonSettings, LayerComparison, RoutingVersusResidual
from trialplate.routing.errors import ProbeError
from trialplate.routing.estimates import NullBand, estimate_layers, margin_contrast, null_bands
from trialplate.routing.finding import finding
from trialplate.routing.twin import random_twin

SIZES = ComparisonSettings().sizes
N = 6


def arm(slopes, curved=False):
    """An arm of unit norm whose margins rise by slope * size (or its root) from 1."""
    slopes = torch.as_tensor(slopes, dtype=torch.float64)
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    margins = 1 + (sizes.sqrt() if curved else sizes)[:, None] * slopes
    unit = torch.ones(len(slopes))
    return ArmResult([1.0], [1.0], unit, {"relative_norm": unit, "late_window_sd": unit / 2}, margins, margins, slopes)


def compared(routing, residual, control=(), free=None, layers=(0,)):
    rows = [LayerComparison(i, arm(routing), arm(residual), arm(residual if free is None else free)) for i in layers]
    is_control = torch.tensor([i in control for i in range(len(routing))])
    return RoutingVersusResidual(ComparisonSettings(), torch.zeros(len(routing)), is_control, rows)


def test_means_shares_and_contrasts():
    found = estimate_layers(
        compared([3.0] * N + [1.0, 0], [1.0] * N + [5.0, 7], control=(N, N + 1)), seed=0, draws=100
    )[0]
    assert (found.routing.value, found.residual.value, found.routing.n) == (3, 1, N)
    assert found.difference.value == 2
    assert found.routing_share.value == 0.75
    assert set(found.routing_share_by_match) == {"relative_norm", "late_window_sd"}
    assert found.routing_contrast.value == 2.5
    assert found.residual_contrast.value == -5
    assert (found.routing_rising, found.routing_linear) == (1, pytest.approx(1))


def test_slopes_can_be_told_in_another_unit():
    assert arm([3.0] * N).slopes("relative_norm").tolist() == [3.0] * N
    assert arm([3.0] * N).slopes("late_window_sd").tolist() == [1.5] * N  # half as long a unit
    with pytest.raises(ProbeError, match="output_kl"):
        arm([3.0] * N).slopes("output_kl")


def test_a_share_of_nothing_is_undefined():
    found = estimate_layers(compared([0.0] * N, [0.0] * N), seed=0, draws=100)[0]
    assert found.routing_share is None
    assert found.routing_share_by_match == {}
    assert (found.routing_rising, found.routing_linear) == (0, None)


def test_a_curved_arm_is_not_linear():
    layer = LayerComparison(0, arm([1.0] * N, curved=True), arm([1.0] * N), arm([1.0] * N))
    result = RoutingVersusResidual(ComparisonSettings(), torch.zeros(N), torch.zeros(N, dtype=torch.bool), [layer])
    found = estimate_layers(result, seed=0, draws=100)[0]
    assert found.routing_linear < 0.95 < found.residual_linear


def test_intervals_are_those_of_the_seed():
    result = compared(np.linspace(-1, 2, N).tolist(), [1.0] * N)
    one, same, other = (estimate_layers(result, seed=seed, draws=200)[0].routing.ci for seed in (1, 1, 2))
    assert one == same != other
    assert one[0] < 0.5 < one[1]


def test_margins_are_contrasted_with_controls():
    margins, control = torch.tensor([3.0, 5, 1, 2]), torch.tensor([False, False, True, True])
    assert margin_contrast(margins, control).value == 2.5
    assert margin_contrast(margins, torch.zeros(4, dtype=torch.bool)) is None


def test_the_band_spans_all_random_models():
    twins = [compared([-1.0] * N, [1.0] * N, layers=(0, 2)), compared([2.0] * N, [2.0] * N, layers=(0, 2))]
    bands = {(band.layer, band.quantity): band for band in null_bands(twins, seed=0, draws=100)}
    assert set(bands) == {(layer, q) for layer in (0, 2) for q in ("routing", "residual", "routing_share")}
    routing = bands[2, "routing"]
    assert (routing.low, routing.mean, routing.high, routing.n_models) == (-1, 0.5, 2, 2)
    assert bands[0, "routing_share"].mean == 0.5


def estimate(low, high):
    return Estimate((low + high) / 2, 14, (high - low) / 4, (low, high))


def row(layer, difference, routing=(1, 2)):
    class Row:
        pass

    found = Row()
    found.layer, found.difference, found.routing = layer, estimate(*difference), estimate(*routing)
    found.residual = estimate(2, 3)
    return found


def test_the_finding_is_a_sentence():
    up, down, between = (1, 2), (-2, -1), (-1, 1)
    bands = [NullBand(i, "routing", 0, -1, 1.4, 3) for i in range(3)]
    assert finding([row(0, up), row(1, up, (-1, 0)), row(2, between)], bands, "relative_norm") == (
        "Routing moves the margin more than the residual at 1 of 3 layers (14 prompts, steps matched by relative norm); routing does more "
        "than in random models at 2 of 3"
    )  # at layer 1 the difference is positive, but routing does no more than in random models
    assert finding([row(0, down), row(1, down), row(2, up)], [], "output_kl") == (
        "The residual moves the margin more than routing at 2 of 3 layers, less at 1 (14 prompts, steps matched by output KL); no null was run"
    )
    assert finding([row(0, between)], [], "late_window_sd").startswith(
        "Neither routing nor the residual moves the margin more"
    )


def test_a_model_without_a_preference_has_nothing_to_explain():
    rows = [row(0, (1, 2))]
    assert finding(rows, [], "output_kl", estimate(-0.2, 0.1)).startswith("The margin is no larger on target prompts")
    assert finding(rows, [], "output_kl", estimate(0.1, 0.4)).startswith("Routing moves the margin more")


def test_a_twin_is_another_model_of_the_same_form(toy):
    state = torch.get_rng_state()
    one, same, other = (random_twin(toy.model, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.cfg == toy.model.cfg
    assert not one.training
    assert torch.equal(one.tok.weight, same.tok.weight)
    assert not torch.equal(one.tok.weight, other.tok.weight)
    assert not torch.equal(one.tok.weight, toy.model.tok.weight)


def test_a_model_without_configuration_has_no_twin(toy, monkeypatch):
    monkeypatch.setattr(toy.model, "cfg", None)
    with pytest.raises(ProbeError, match="leave the null out"):
        random_twin(toy.model, 0)
