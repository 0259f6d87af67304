"""Routing against residual on models of which the answer is known, and on what the published experiments got wrong."""

import pytest
import torch
from tests.routing import planted

from asa.asm_lm import build_model_from_cfg
from asa.config import ASMTrainConfig
from trialplate.routing.arms import residual_arm, routing_arm
from trialplate.routing.comparison import ComparisonSettings, routing_versus_residual
from trialplate.routing.directions import axis_gradients, others_direction
from trialplate.routing.errors import ProbeError
from trialplate.routing.estimates import estimate_layers
from trialplate.routing.matching import divergence, unit_lengths
from trialplate.routing.published import frozen_layer, parity
from trialplate.routing.undisturbed import observe

WORDS = planted.TARGET, planted.RIVAL


def means(layer):
    return [arm.relative.mean().item() for arm in (layer.routing, layer.residual, layer.residual_free)]


def test_where_routing_decides_a_frozen_residual_moves_nothing():
    """The stream after block 0 acts through the routing of block 1 alone: free it moves the margin, frozen it does not."""
    found = routing_versus_residual(planted.routing_decides(), planted.prompts(), None, *WORDS)
    _, frozen, free = means(found.layers[0])
    assert free > 1
    assert abs(frozen) < 0.01 * free
    assert means(found.layers[1])[0] > 0.1
    estimates = estimate_layers(found, seed=0, draws=300)
    assert estimates[1].routing.ci[0] > 0
    assert estimates[0].residual.ci[1] < 0.05 < estimates[0].residual_free.ci[0]


def test_the_published_freezing_misses_it():
    """Defect 1: the frozen layer has routed already, so the published slope is that of a free residual; it says "decoder key"."""
    model, ids = planted.routing_decides(), planted.prompts()
    seen = observe(model, ids)
    published = frozen_layer(model, seen, *WORDS, 0)
    assert published.slope0 == pytest.approx(parity(model, seen, *WORDS, 0).slope_residual, rel=0.01)
    assert published.slope0 > 0.1
    as_published = routing_versus_residual(model, ids, None, *WORDS, frozen="layer").layers[0]
    assert means(as_published)[1] == pytest.approx(means(as_published)[2], rel=1e-3)


def test_where_the_residual_decides_routing_moves_nothing():
    found = routing_versus_residual(planted.residual_decides(), planted.prompts(), None, *WORDS)
    for layer in found.layers:
        routing, frozen, free = means(layer)
        assert abs(routing) < 1e-4
        assert frozen == pytest.approx(free, rel=1e-4)
        assert frozen > 1
    for estimate in estimate_layers(found, seed=0, draws=300):
        assert estimate.difference.ci[1] < 0
        assert estimate.routing_share.value < 1e-3


def test_a_jump_is_not_a_slope(toy, seen):
    """Defect 2: on the toy model forcing alone lowers the margin, and the published slope calls that a steep descent of a step uphill."""
    published = parity(toy.model, seen, *toy.words, 2)
    assert published.forced_jump < -0.01
    assert published.slope_routing < -1
    assert 0 < published.slope_routing_from_forced < 0.1
    forced, own = (
        routing_versus_residual(toy.model, toy.prompts.ids, toy.prompts.mask, *toy.words, layers=[2], forcing=forcing)
        for forcing in ("head_mean", "own")
    )
    jumps = forced.layers[0].routing.margins[0] - forced.base
    assert jumps.mean().item() == pytest.approx(published.forced_jump, abs=1e-4)
    assert (own.layers[0].routing.margins[0] - own.base).abs().max() < 1e-4
    assert abs(means(forced.layers[0])[0]) < 0.1


def test_slopes_do_not_depend_on_the_scale_of_the_stream():
    """Defect 3: with a stream ten times as large the model is the same function; the published residual slope falls to a tenth."""
    cfg = ASMTrainConfig.from_dict(
        {"vocab_size": 24, "embed_dim": 24, "num_layers": 2, "num_heads": 2, "num_slots": 6, "slotspace_dim": 8, "max_seq_len": 16, "tie_weights": False}
    )  # fmt: skip
    ids = planted.prompts()
    models = []
    for factor in (50, 500):  # 0.02 of the initialisation to 1: beside it the epsilon of the norms is nothing
        with torch.random.fork_rng():
            torch.manual_seed(3)
            models.append(planted.rescaled(build_model_from_cfg(cfg).eval(), factor))
    one, ten = models
    passes = [observe(model, ids) for model in models]
    torch.testing.assert_close(passes[0].margins(*WORDS), passes[1].margins(*WORDS), rtol=1e-3, atol=1e-5)
    raw = [parity(model, seen, *WORDS, 0).slope_residual for model, seen in zip(models, passes, strict=True)]
    assert raw[1] == pytest.approx(raw[0] / 10, rel=0.05)
    for match in ("relative_norm", "late_window_sd", "output_kl"):
        slopes = [
            routing_versus_residual(model, ids, None, *WORDS, layers=[0]).layers[0].residual.slopes(match)
            for model in (one, ten)
        ]
        torch.testing.assert_close(slopes[0], slopes[1], rtol=0.02, atol=1e-3)


def test_directions_are_gradients_where_the_model_stands(toy, seen):
    """Defect 4: central differences about the undisturbed run equal autograd there; about a displaced point they do not."""
    arm = residual_arm(toy.model, seen, 3, "none", 3, 5)

    def margin(logits):
        return logits[..., toy.words[0]] - logits[..., toy.words[1]]

    step = torch.zeros(17, 48, requires_grad=True)
    logits = toy.model.lm_head(toy.model.norm(arm.origin + step))  # block 3 is the last
    margin(logits).sum().backward()
    exact = step.grad @ arm.axes.directions
    found = axis_gradients(arm, margin)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=2e-3)
    displaced = arm.axes.decode(arm.axes.coordinates(arm.origin))
    far = [
        (margin(arm.run((displaced + 0.01 * axis)[None])) - margin(arm.run((displaced - 0.01 * axis)[None])))[0] / 0.02
        for axis in arm.axes.directions.T
    ]
    assert (torch.stack(far, 1).mean(0).norm() - exact.mean(0).norm()).abs() > 0.2


def test_no_prompt_chooses_its_own_direction():
    gradients = torch.tensor([[1.0, 0], [0, 1], [0, 3], [9, 9]])
    counted = torch.tensor([True, True, True, False])  # the last one is a control
    half = 0.5**0.5
    expected = torch.tensor([[0, 1.0], [1 / 10**0.5, 3 / 10**0.5], [half, half], [1 / 17**0.5, 4 / 17**0.5]])
    torch.testing.assert_close(others_direction(gradients, counted), expected)
    assert not others_direction(torch.zeros(3, 2), torch.ones(3, dtype=torch.bool)).any()


def test_controls_choose_no_direction_and_enter_no_mean(toy):
    """Defect 5: the answer over target prompts is the same whatever the controls are."""
    control = toy.prompts.is_control
    with_controls = routing_versus_residual(
        toy.model, toy.prompts.ids, toy.prompts.mask, *toy.words, is_control=control, layers=[3]
    )
    estimate = estimate_layers(with_controls, seed=0, draws=100)[0]
    slopes = with_controls.layers[0].residual.slopes("relative_norm")
    assert estimate.residual.value == pytest.approx(slopes[~control].mean().item())
    assert estimate.residual.n == 14
    assert estimate.residual_contrast.value == pytest.approx((slopes[~control].mean() - slopes[control].mean()).item())
    everybody = routing_versus_residual(toy.model, toy.prompts.ids, toy.prompts.mask, *toy.words, layers=[3])
    assert everybody.layers[0].residual.gradient != pytest.approx(with_controls.layers[0].residual.gradient, rel=1e-3)
    assert estimate_layers(everybody, seed=0, draws=100)[0].residual_contrast is None


def test_the_arms_of_the_toy_model_are_linear_and_consistent(toy):
    found = routing_versus_residual(toy.model, toy.prompts.ids, toy.prompts.mask, *toy.words, layers=[3])
    arm = found.layers[0].residual
    steps = torch.tensor(found.settings.sizes)[1:, None]
    local = (arm.margins[1:] - arm.margins[0]) / steps
    torch.testing.assert_close(local[0].double(), arm.relative, rtol=0.05, atol=0.2)
    assert (arm.kl[0] == 0).all()
    assert (arm.kl.diff(dim=0) > 0).all()
    torch.testing.assert_close(found.base, torch.tensor(toy.golden["margin"]), rtol=0, atol=1e-4)


def test_units_turn_into_each_other():
    norms, spread, shifted = torch.tensor([2.0, 4]), torch.tensor([1.0, 1]), torch.tensor([0.02, 0.08])
    units = unit_lengths(norms, spread, 0.1, shifted)
    assert units["relative_norm"].tolist() == [2, 4]
    assert units["late_window_sd"].tolist() == [1, 1]
    # a step of 0.1 * 2 shifts by 0.02 nats; one of length 1 by 25 times that, half a nat
    assert units["output_kl"].tolist() == pytest.approx([1.0, 1.0])
    assert "output_kl" not in unit_lengths(norms, spread, 0.1, torch.tensor([0.02, 0.0]))


def test_divergence_of_two_coins():
    logits = torch.log(torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]]))
    expected = 0.5 * torch.log(torch.tensor(0.5 / 0.25)) + 0.5 * torch.log(torch.tensor(0.5 / 0.75))
    assert divergence(logits)[0].item() == 0
    assert divergence(logits)[1].item() == pytest.approx(expected.item(), rel=1e-6)


def test_kl_cannot_match_what_no_token_notices():
    model, ids = planted.residual_decides(), planted.prompts()
    model.lm_head.weight.data.zero_()
    found = routing_versus_residual(model, ids, None, *WORDS, layers=[0])
    with pytest.raises(ProbeError, match="match by relative_norm or late_window_sd"):
        found.layers[0].routing.slopes("output_kl")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frozen": "upstream"}, "frozen: wanted one of downstream, layer, none"),
        ({"match": "size"}, "match: wanted one of relative_norm, late_window_sd, output_kl"),
        ({"forcing": "all"}, "forcing: wanted one of own, head_mean"),
        ({"sizes": (0.01, 0.02, 0.04)}, "rising numbers from 0"),
        ({"sizes": (0.0, 0.01)}, "at least 3"),
    ],
)
@pytest.mark.fast
def test_settings_that_mean_nothing_are_refused(changes, text):
    with pytest.raises(ProbeError, match=text):
        ComparisonSettings(**changes)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"layers": [4]}, "numbers from 0 to 3"),
        ({"layers": []}, "numbers from 0 to 3"),
        ({"n_axes": 9}, "no 9 principal axes"),
        ({"window": 0}, "at least 1"),
        ({"is_control": torch.tensor([True] * 16 + [False])}, "at least 2"),
        ({"is_control": torch.tensor([True])}, "17 prompts"),
    ],
)
def test_what_cannot_be_compared_is_refused(toy, arguments, text):
    with pytest.raises(ProbeError, match=text):
        routing_versus_residual(toy.model, toy.prompts.ids, toy.prompts.mask, *toy.words, **arguments)


def test_a_dead_layer_is_named():
    model = planted.routing_decides()
    model.layers[1].Wq_read.weight.data.zero_()
    with pytest.raises(ProbeError, match=r"read logits of layer 1: the \d+ points are equal"):
        routing_versus_residual(model, planted.prompts(), None, *WORDS)


def test_a_prompt_of_one_token_has_no_late_window(toy):
    with pytest.raises(ProbeError, match="at least 2 tokens"):
        routing_versus_residual(toy.model, torch.tensor([[1, 2], [3, 0]]), torch.tensor([[1, 1], [1, 0]]), *toy.words)


def test_the_origin_of_a_routing_step_is_centred(toy, seen):
    for forcing in ("own", "head_mean"):
        origin = routing_arm(toy.model, seen, 1, forcing, 3, 5).origin
        assert origin.mean(1).abs().max() < 1e-6
        assert (origin.norm(dim=1) > 0).all()
