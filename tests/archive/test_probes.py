"""The slow probes reproduce the golden statistics, with the tolerances that golden/asa/README.md suggests."""

import math

import pytest
import torch
from building_blocks import paris_margin as pm
from building_blocks import routing_versus_residual as rr
from torch.testing import assert_close

CLOSE, SLOPE = {"abs": 1e-4, "rel": 1e-4}, {"abs": 2e-2, "rel": 2e-2}


@pytest.fixture
def ask(probe):
    """ask(function, *args, **keywords) with the toy model, its prompts and its two tokens."""
    model, spec, ids, mask = probe
    return lambda f, *args, **kw: f(model, ids, mask, spec["target_id"], spec["rival_id"], *args, **kw)


def test_margins(probe):
    model, spec, ids, mask = probe
    logits, _ = model(ids, attention_mask=mask)
    assert pm.margins(logits, mask, spec["target_id"], spec["rival_id"]).tolist() == pytest.approx(
        spec["margin"], **CLOSE
    )
    assert list(pm.PROMPTS_AGAINST_THE) == spec["prompts"]


def test_layer_sweep(probe, ask):
    expected = probe[1]["layer_sweep"]
    found = ask(pm.layer_sweep)
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert {name: float(row[name]) for name in wanted} == pytest.approx(wanted, **CLOSE)


def test_fd_jacobian(probe, ask):
    for wanted in probe[1]["fd_jacobian"]:
        row = ask(pm.fd_jacobian, wanted["layer"])
        assert row["n_points"] == wanted["n_points"]
        for i in (1, 2, 3):
            assert float(row[f"evr{i}"]) == pytest.approx(wanted[f"evr{i}"], **CLOSE)
            assert float(row[f"frac_pc{i}"]) == pytest.approx(wanted[f"frac_pc{i}"], **SLOPE)
            assert abs(float(row[f"g_pc{i}"])) == pytest.approx(abs(wanted[f"g_pc{i}"]), **SLOPE)


def test_fd_jacobian_of_too_few_prompts_is_refused(probe):
    model, spec, ids, mask = probe
    with pytest.raises(ValueError, match="wanted at least 32, give more prompts"):
        pm.fd_jacobian(model, ids[:3], mask[:3], spec["target_id"], spec["rival_id"], 0)


def test_energy_basin(probe):
    model, wanted = probe[0], probe[1]["energy_basin"]
    ids, mask = torch.tensor(wanted["input_ids"]), torch.tensor(wanted["attention_mask"])
    found = pm.energy_basin(
        model, ids, mask, wanted["target_id"], wanted["pca_layer"], wanted["intervene_layers"], n_grid=3
    )
    assert float(found["energy_at_mean"]) == pytest.approx(wanted["energy_at_mean"], **CLOSE)
    assert found["baseline_neg_logp"].tolist() == pytest.approx(wanted["baseline_neg_logp"], **CLOSE)
    assert sorted(found["grid"].flatten().tolist()) == pytest.approx(wanted["grid_sorted"], **SLOPE)


@pytest.mark.parametrize("layer", ["0", "2"])
def test_parity(layer, probe, ask):
    wanted = probe[1]["parity"][layer]
    found = ask(rr.parity, int(layer))
    for name in ("base", "evr_routing", "evr_residual", "routing_mean", "residual_mean"):
        assert found[name].flatten().tolist() == pytest.approx(torch.tensor(wanted[name]).flatten().tolist(), abs=2e-4)
    for name in ("slope_routing", "slope_residual"):
        assert float(found[name]) == pytest.approx(wanted[name], **SLOPE)
    # forcing alone moves the margin; without that jump little is left of the routing slope
    assert abs(float(found["corrected_slope_routing"])) < 0.1 < abs(float(found["slope_routing"]))
    assert float(found["corrected_slope_residual"]) == pytest.approx(wanted["slope_residual"], **SLOPE)


@pytest.mark.parametrize("layer", ["0", "1", "3"])
def test_frozen(layer, probe, ask):
    wanted = probe[1]["frozen"][layer]
    found = ask(rr.frozen_residual, int(layer))
    assert found["evr"].tolist() == pytest.approx(wanted["evr"], **CLOSE)
    assert found["margins"].tolist() == pytest.approx(wanted["margins"], abs=2e-4)
    assert float(found["g_norm"]) == pytest.approx(wanted["g_norm"], **SLOPE)
    assert float(found["slope0"]) == pytest.approx(wanted["slope0"], **SLOPE)


def test_holding_the_layer_itself_holds_nothing_and_holding_downstream_does(ask):
    free, layer, downstream = (ask(rr.frozen_residual, 0, frozen=f)["margins"] for f in ("none", "layer", "downstream"))
    assert_close(layer, free, atol=1e-5, rtol=0)
    assert (downstream - free).abs().max() > 1e-4


def test_an_unknown_way_to_freeze_is_refused(ask):
    with pytest.raises(ValueError, match="wanted none, layer or downstream, got 'all'"):
        ask(rr.frozen_residual, 0, frozen="all")


def test_matching_worked_out_by_hand():
    similarity = torch.tensor([[0.9, 0.8, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.5]])
    assert pm.best_matching(similarity) == ([1, 0, 2], pytest.approx(2.1))


def test_heads_that_are_permuted_are_found_again():
    g = torch.Generator().manual_seed(0)
    r = torch.softmax(torch.randn(2, 4, 20, 6, generator=g) * torch.tensor([0.5, 1, 2, 4])[:, None, None], dim=-1)
    row = pm.head_alignment([{"read_weights": r}, {"read_weights": r[:, [2, 0, 3, 1]]}])[0]
    assert row["order"] == [1, 3, 0, 2]
    assert row["best"] == pytest.approx(1.0)
    assert float(row["diag"]) < 1


def test_inertia_of_routing_that_turns_once():
    r = torch.zeros(1, 1, 10, 2)
    r[..., :5, 0] = r[..., 5:, 1] = 1.0
    found = pm.policy_inertia(r)
    assert found["curve"][:2].tolist() == pytest.approx([8 / 9, 6 / 8])
    assert found["half_life"] == pytest.approx(0.1 / (1 / 9))
    assert pm.policy_inertia(torch.ones(1, 1, 5, 2))["half_life"] == math.inf


def test_trajectories_in_three_components_lie_on_the_sphere(probe):
    model, _, ids, mask = probe
    infos = model(ids, attention_mask=mask)[1]
    assert pm.trajectory_bundle(infos, 1, mask).shape == (*ids.shape, 2)
    assert_close(pm.trajectory_bundle(infos, 1, mask, 3).norm(dim=-1), torch.ones(ids.shape))
