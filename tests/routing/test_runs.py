"""Runs with one thing changed: the quick form, on the last token alone, against a full forward; and nothing stays changed."""

import copy

import pytest
import torch
from tests.routing import planted

from asa.asm_lm import build_model_from_cfg
from asa.interventions import setting
from trialplate.routing import disturbed
from trialplate.routing.disturbed import run_forced, run_injected, run_shifted, run_shifted_everywhere
from trialplate.routing.errors import ProbeError
from trialplate.routing.probe import ProbeSettings, run_probe
from trialplate.routing.undisturbed import logit_lens_margins, observe

LAYER = 1


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def full_forward(toy, seen, overrides=None, added=None):
    """One variant of every prompt through the whole model, with overrides by layer and a step after block LAYER."""

    def add(module, args, output):
        x = output[0].clone()
        x[seen.rows, seen.last] += added
        return x, output[1]

    handle = toy.model.blocks[LAYER].register_forward_hook(add) if added is not None else None
    layers = toy.model.layers
    before = [layer.routing_override for layer in layers]
    try:
        for index, override in (overrides or {}).items():
            layers[index].routing_override = override
        return toy.model(toy.prompts.ids, toy.prompts.mask)[seen.rows, seen.last]
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.routing_override = old
        if handle:
            handle.remove()


def at_last(seen, weights, steps=None, forced=None):
    """Weights of a layer, changed at the last tokens: logits moved by steps, or replaced."""
    changed = weights.clone()
    for row, last in zip(seen.rows, seen.last, strict=True):
        if forced is not None:
            changed[row, :, last] = forced[row]
        else:
            changed[row, :, last] = torch.softmax(seen.read_logits[LAYER][row, :, last] + steps[row], dim=-1)
    return changed


def test_a_step_in_read_logits(toy, seen):
    steps = noise(2, 17, 8)
    quick = run_shifted(toy.model, seen, LAYER, steps)
    for variant in (0, 1):
        slow = full_forward(toy, seen, {LAYER: at_last(seen, seen.read_weights[LAYER], steps[variant])})
        torch.testing.assert_close(quick[variant], slow, rtol=1e-4, atol=2e-5)
    placed = torch.zeros(2, 17, 8, 8)
    placed[:, seen.rows, seen.last] = steps
    torch.testing.assert_close(quick, run_shifted_everywhere(toy.model, seen, LAYER, placed), rtol=1e-4, atol=2e-5)


def test_forced_weights_on_several_layers(toy, seen):
    weights = torch.softmax(3 * noise(1, 17, 8), dim=-1)
    quick = run_forced(toy.model, seen, [LAYER, 3], weights)
    slow = full_forward(toy, seen, {LAYER: at_last(seen, seen.read_weights[LAYER], forced=weights[0])})
    assert (quick[0] - slow).abs().max() > 1e-3  # layer 3 is forced as well

    def forced_three(t0, t1, logits, key, content, ctx):
        own = torch.softmax(logits, dim=-1)
        for row, last in zip(seen.rows, seen.last, strict=True):
            own[row, :, last - t0] = weights[0, row]
        return own

    overrides = {LAYER: at_last(seen, seen.read_weights[LAYER], forced=weights[0]), 3: forced_three}
    torch.testing.assert_close(quick[0], full_forward(toy, seen, overrides), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("frozen", [[], [1], [1, 2, 3]])
def test_a_step_in_the_stream(toy, seen, frozen):
    steps = noise(1, 17, 48)
    quick = run_injected(toy.model, seen, LAYER, steps, frozen)
    overrides = {index: seen.read_weights[index] for index in frozen}
    torch.testing.assert_close(quick[0], full_forward(toy, seen, overrides, steps[0]), rtol=1e-4, atol=5e-5)


def test_no_step_changes_nothing(toy, seen):
    for quick in (
        run_shifted(toy.model, seen, 0, torch.zeros(1, 17, 8)),
        run_injected(toy.model, seen, 0, torch.zeros(1, 17, 48), [0, 1, 2, 3]),
    ):
        torch.testing.assert_close(quick[0], seen.logits, rtol=1e-4, atol=2e-5)


def test_slices_change_no_number(toy, seen, monkeypatch):
    steps = noise(5, 17, 8)
    whole = run_shifted(toy.model, seen, LAYER, steps)
    monkeypatch.setattr(disturbed, "ROWS_AT_ONCE", 34)
    torch.testing.assert_close(run_shifted(toy.model, seen, LAYER, steps), whole, rtol=1e-5, atol=1e-5)


def test_layers_are_as_they_were_even_after_an_error(toy, seen):
    with pytest.raises(RuntimeError):
        run_shifted(toy.model, seen, LAYER, noise(1, 17, 5))  # five logits for eight slots
    assert all(layer.routing_override is None for layer in toy.model.layers)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in toy.model.blocks)


def test_the_last_row_of_the_lens_is_the_margin(toy, seen):
    lens = logit_lens_margins(toy.model, seen, *toy.words)
    assert lens.shape == (4, 17)
    torch.testing.assert_close(lens[-1], seen.margins(*toy.words), rtol=1e-5, atol=1e-5)
    assert (lens[0] - lens[-1]).abs().max() > 1


def test_models_that_cannot_be_probed_say_why(toy):
    model = planted.routing_decides()
    with pytest.raises(ProbeError, match=r"call model\.eval\(\)"):
        observe(model.train(), planted.prompts())
    online = build_model_from_cfg(model.cfg, "online").eval()
    with pytest.raises(ProbeError, match="variant='baseline'"):
        observe(online, planted.prompts())
    with (
        setting(toy.model.layers[2], slot_mask=torch.ones(8)),
        pytest.raises(ProbeError, match="layer 2 carries its own slot_mask"),
    ):
        observe(toy.model, toy.prompts.ids, toy.prompts.mask)
    gated = build_model_from_cfg(toy.model.cfg, "intervene").eval()
    with setting(gated.layers, _intv_mode="orth_gate"), pytest.raises(ProbeError, match="whole batch"):
        observe(gated, toy.prompts.ids, toy.prompts.mask)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-3), (torch.bfloat16, 0.1)])
def test_other_precisions_run_through(toy, toy_run, dtype, tolerance):
    """All of the probe in float64 gives the numbers of float32; in bfloat16 it runs, and the margins are near."""
    model = copy.deepcopy(toy.model).to(dtype)
    found = run_probe(
        model, toy.prompts, ProbeSettings(layers=[2], n_null=1, published=True, basin_grid=2, bootstrap_draws=20)
    )
    assert found.margins.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.margins.float(), toy_run.margins, rtol=tolerance, atol=tolerance)
    if dtype == torch.float64:
        assert found.estimates[0].residual.value == pytest.approx(toy_run.estimates[2].residual.value, abs=0.01)
