"""Every number of the published notebooks on the toy model, within the tolerances of the golden data: 1e-4, slopes 2e-2."""

import pytest
import torch

from trialplate.routing.basin import energy_basin
from trialplate.routing.jacobian import routing_jacobian
from trialplate.routing.layer_statistics import layer_sweep
from trialplate.routing.margin import margins
from trialplate.routing.prompts import NOTEBOOK
from trialplate.routing.published import frozen_layer, parity
from trialplate.routing.undisturbed import observe

EXACT, SLOPE = 1e-4, 2e-2


def test_the_prompts_are_the_published_ones(toy):
    assert [prompt.text for prompt in NOTEBOOK.prompts] == toy.golden["prompts"]
    assert [prompt.is_control for prompt in NOTEBOOK.prompts] == [False] * 14 + [True] * 3


def test_margins(toy, seen):
    found = margins(toy.model, toy.prompts.ids, toy.prompts.mask, *toy.words)
    assert found.tolist() == pytest.approx(toy.golden["margin"], abs=EXACT)
    assert seen.margins(*toy.words).tolist() == pytest.approx(toy.golden["margin"], abs=EXACT)


def test_layer_sweep(toy, seen):
    rows = layer_sweep(seen, seen.margins(*toy.words))
    assert len(rows) == 4
    for row, golden in zip(rows, toy.golden["layer_sweep"], strict=True):
        assert {key: getattr(row, key) for key in golden} == pytest.approx(golden, abs=EXACT)


def test_jacobian(toy, seen):
    for row, golden in zip(routing_jacobian(toy.model, seen, *toy.words), toy.golden["fd_jacobian"], strict=True):
        assert (row.layer, row.ok, row.n_points) == (golden["layer"], golden["ok"], golden["n_points"])
        assert row.evr == pytest.approx([golden[f"evr{i}"] for i in (1, 2, 3)], abs=EXACT)
        assert row.frac == pytest.approx([golden[f"frac_pc{i}"] for i in (1, 2, 3)], abs=SLOPE)
        assert [abs(g) for g in row.g] == pytest.approx([abs(golden[f"g_pc{i}"]) for i in (1, 2, 3)], abs=1e-3)


@pytest.mark.parametrize("layer", [0, 2])
def test_parity(toy, seen, layer):
    found, golden = parity(toy.model, seen, *toy.words, layer), toy.golden["parity"][str(layer)]
    assert found.base.mean().item() == pytest.approx(golden["base"], abs=EXACT)
    assert found.evr_routing == pytest.approx(golden["evr_routing"], abs=EXACT)
    assert found.evr_residual == pytest.approx(golden["evr_residual"], abs=EXACT)
    assert found.routing.mean(1).tolist() == pytest.approx(golden["routing_mean"], abs=EXACT)
    assert found.residual.mean(1).tolist() == pytest.approx(golden["residual_mean"], abs=EXACT)
    assert found.slope_routing == pytest.approx(golden["slope_routing"], abs=SLOPE)
    assert found.slope_residual == pytest.approx(golden["slope_residual"], abs=SLOPE)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_frozen(toy, seen, layer):
    found, golden = frozen_layer(toy.model, seen, *toy.words, layer), toy.golden["frozen"][str(layer)]
    assert found.base.mean().item() == pytest.approx(golden["base"], abs=EXACT)
    assert found.evr == pytest.approx(golden["evr"], abs=EXACT)
    assert found.margins.mean(1).tolist() == pytest.approx(golden["margins"], abs=EXACT)
    assert found.g_norm == pytest.approx(golden["g_norm"], abs=SLOPE)
    assert found.slope0 == pytest.approx(golden["slope0"], abs=SLOPE)


def test_energy_basin(toy):
    golden = toy.golden["energy_basin"]
    pass_ = observe(toy.model, torch.tensor(golden["input_ids"]), torch.tensor(golden["attention_mask"]))
    basin = energy_basin(
        toy.model,
        pass_,
        golden["target_id"],
        axes_layer=golden["pca_layer"],
        forced_layers=golden["intervene_layers"],
        grid=3,
    )
    assert basin.undisturbed.tolist() == pytest.approx(golden["baseline_neg_logp"], abs=EXACT)
    assert basin.energy_at_mean == pytest.approx(golden["energy_at_mean"], abs=EXACT)
    assert sorted(basin.energy.flatten().tolist()) == pytest.approx(golden["grid_sorted"], abs=1e-3)
    assert basin.bottom[2] == pytest.approx(min(golden["grid_sorted"]), abs=1e-3)
