"""The slow twins of the attention layers reproduce every golden case, values and gradients, and keep what must hold beyond them."""

import pytest
import torch
from building_blocks.asa_default import asa_default
from building_blocks.asa_intervene import asa_intervene
from building_blocks.asa_online import asa_online
from building_blocks.prefix_write import slot_states
from building_blocks.routing import add_noise, route
from torch.testing import assert_close


def test_golden_layer(layer_case, run, stored):
    found = stored(layer_case)
    y, info = run(layer_case, strict_reference=not layer_case["finite"])
    assert_close(y, found.out["y"], **layer_case["tolerance"], equal_nan=True)
    assert sorted(layer_case["info"]) == sorted(found.info)
    for name, value in found.info.items():
        assert_close(
            info[name],
            value,
            **layer_case["tolerance"],
            equal_nan=True,
            check_dtype=False,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_golden_gradients(golden_case, stored):
    case = golden_case("base_grad")
    found = stored(case)
    leaves = {name: t.clone().requires_grad_() for name, t in {**found.state, "x": found.inputs["x"]}.items()}
    y, _ = asa_default(leaves["x"], leaves, **case["init"])
    (y * found.inputs["grad_weight"]).sum().backward()
    assert found.grad.keys() == leaves.keys()
    for name, grad in found.grad.items():
        assert_close(leaves[name].grad, grad, **case["tolerance"], msg=lambda m, n=name: f"{n}: {m}")


def test_leading_padding_is_zero_state_and_nan_only_in_the_reference(golden_case, run, stored):
    case = golden_case("pad_left_nan")
    y, _ = run(case)
    assert torch.isfinite(y).all()
    assert_close(y[0], stored(case).out["y"][0], **case["tolerance"])
    assert torch.isnan(run(case, strict_reference=True)[0][1]).any()


def test_exact_is_chunks_of_one_token_and_the_chunk_size_matters(golden_case, run, stored):
    case = golden_case("base_chunk128")
    exact = stored(golden_case("base_chunk1")).out["y"]
    assert_close(run(case, write_mode="exact")[0], exact, atol=1e-5, rtol=1e-5)
    assert (run(case)[0] - exact).abs().max() > 1


def test_nothing_before_a_changed_token_changes(golden_case, stored):
    case = golden_case("intv_delta_par")
    found = stored(case)
    changed = found.inputs["x"].clone()
    changed[:, 20] += 1
    inputs = (found.inputs["x"], changed)
    y, other = (asa_intervene(x, found.state, **case["init"], **case["attrs"])[0] for x in inputs)
    gap = (y - other).abs().amax(dim=(0, 2))
    assert gap[:20].max() == 0
    assert gap[20] > 0


def random_state(width=8, heads=2, slots=3, small=4, seed=0):
    """Parameters of a small layer in float64."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64)

    state = {f"{n}.weight": draw(width, width) / 3 for n in ("Wk_write", "Wv_write", "Wq_read", "out_proj")}
    state |= {
        "slot_keys": draw(heads, slots, width // heads),
        "slot_in.weight": draw(small, slots),
        "slot_out.weight": draw(slots, small),
    }
    state |= {f"slot_{n}.weight": draw(small, small) for n in "qkv"}
    return state | {n: draw() for n in ("_alibi_strength_param", "_content_read_gamma_raw", "_slotspace_gate_raw")}


def random_input(n_tokens=7, width=8, seed=1):
    return torch.randn(2, n_tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("how", [{"write_chunk_size": 3}, {"write_mode": "exact"}], ids=["reference", "exact"])
def test_gradients_are_those_of_the_values(how):
    state = random_state()
    names = list(state)
    mask = torch.tensor(
        [[0, 0, 1, 1, 1], [1, 1, 0, 1, 1]]
    )  # nothing is written before the third token of the first row

    def layer(x, *tensors):
        return asa_default(x, dict(zip(names, tensors, strict=True)), attention_mask=mask, **how)[0]

    inputs = [t.clone().requires_grad_() for t in (random_input(5), *state.values())]
    assert torch.autograd.gradcheck(layer, inputs, fast_mode=True)


def test_a_slot_in_which_nothing_was_written_is_zero():
    w = torch.full((1, 1, 1, 3), -torch.inf)
    w[..., 2] = 1.0
    v = torch.tensor([[[[5.0], [6.0], [7.0]]]])
    for how in ({"write_chunk_size": 3}, {"write_mode": "exact"}):
        assert slot_states(w, v, **how).flatten().tolist() == [0, 0, 7]
        assert slot_states(w, v, strict_reference=True, **how).isnan().flatten().tolist() == [True, True, False]


def test_reference_states_worked_out_by_hand():
    w = torch.tensor([0.0, 1.0, 0.0, 2.0]).double().reshape(1, 1, 1, 4)
    v = torch.tensor([1.0, 2.0, 3.0, 4.0]).double().reshape(1, 1, 4, 1)
    e = torch.e
    # chunks {0, 1}, {2, 3}: within a chunk a weight stays what it was when its token came
    s = [1.0, (1 + 2) / 2, (1 + 2 + 3 / e) / (2 + 1 / e), ((1 + 2) / e + 3 / e + 4) / (2 / e + 1 / e + 1)]
    assert_close(slot_states(w, v, write_chunk_size=2).flatten(), torch.tensor(s, dtype=torch.float64))
    exact = [1.0, (1 + 2 * e) / (1 + e), (1 + 2 * e + 3) / (2 + e), (1 + 2 * e + 3 + 4 * e**2) / (2 + e + e**2)]
    assert_close(slot_states(w, v, write_mode="exact").flatten(), torch.tensor(exact, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["softmax", "top1", "topk", "external"])
@pytest.mark.parametrize("noise", [None, "gumbel", "gaussian"])
def test_read_weights_sum_to_one(mode, noise):
    logits = add_noise(random_input(), noise, 0.5, torch.Generator().manual_seed(2))
    r = route(logits, mode, external=torch.rand(2, 7, 8, generator=torch.Generator().manual_seed(3)))
    assert_close(r.sum(-1), torch.ones_like(r[..., 0]))
    assert (logits == random_input()).all() == (noise is None)
    assert (r > 0).sum(-1).unique().tolist() == {"top1": [1], "topk": [2]}.get(mode, [8])


def test_both_parts_of_the_refinement_together_are_the_refinement():
    x, state = random_input(), random_state()
    whole = asa_intervene(x, state, write_chunk_size=3)[0]
    both = asa_intervene(x, state, write_chunk_size=3, _intv_mode="delta_par_plus_orth")[0]
    assert_close(both, whole, atol=1e-12, rtol=0)
    assert (asa_intervene(x, state, write_chunk_size=3, _intv_mode="delta_par")[0] - whole).abs().max() > 1e-3


def test_online_is_the_default_layer_without_padding():
    x, state = random_input(), random_state()
    how = {"write_chunk_size": 3, "slotspace_chunk_size": 2}
    assert_close(asa_online(x, state, **how)[0], asa_default(x, state, **how)[0])


def test_last_token_masks_the_last_valid_token_of_each_row():
    x, state = random_input(), random_state()
    mask = torch.ones(2, 7)
    mask[0, 5:] = 0
    how = {"attention_mask": mask, "slot_mask": torch.tensor([1.0, 0.0, 1.0]), "write_chunk_size": 3}
    r = asa_default(x, state, slot_mask_scope="last_token", **how)[1]["read_weights"]
    masked = (r[..., 1] == 0).all(1)
    assert masked.nonzero().tolist() == [[0, 4], [1, 6]]
    r = asa_default(x, state, slot_mask_scope="last_pos_only", **how)[1]["read_weights"]
    assert (r[..., 1] == 0).all(1).nonzero().tolist() == [[b, t] for b in (0, 1) for t in (2, 5, 6)]


def test_masking_all_slots_or_without_content_weight_gives_no_nan():
    x, state = random_input(), random_state()
    with pytest.raises(ValueError, match="keep at least one"):
        asa_default(x, state, slot_mask=torch.zeros(3))
    assert asa_default(x, state, slot_mask=torch.zeros(3), strict_reference=True)[0].isnan().all()
    silent = {**state, "_content_read_gamma_raw": torch.tensor(-1e4, dtype=torch.float64)}
    kept = torch.tensor([1, 1, 0])
    assert torch.isfinite(asa_default(x, silent, slot_mask=kept)[0]).all()
    assert asa_default(x, silent, slot_mask=kept, strict_reference=True)[0].isnan().all()


def test_thresholds_by_head_leave_other_rows_and_heads_alone():
    x, state = random_input(), random_state()
    how = {"_intv_mode": "orth_gate", "_intv_tau_per_head": True, "_intv_score_clip_pctl": None, "write_chunk_size": 7}
    info = asa_intervene(x, state, **how)[1]
    assert info["tau"].shape == (2,)
    alone = [asa_intervene(x[b : b + 1], state, **how)[1]["tau"] for b in (0, 1)]
    assert_close(info["tau"], (alone[0] + alone[1]) / 2)


def test_info_is_thinned_and_left_out_as_asked():
    x, state = random_input(), random_state()
    _, info = asa_intervene(
        x, state, info_level="logits", info_cfg={"time_stride": 3, "batch_stride": 2, "store_out1": True}
    )
    assert info["read_weights"].shape == info["read_logits"].shape == (1, 2, 3, 3)
    assert info["out1"].shape == (1, 2, 7, 4)
    assert [
        n for n in ("write_logits", "slot_state_norm", "alibi_bias_applied", "delta", "slot_w") if info[n] is not None
    ] == []


WRONG = {
    "a setting": ({"num_slot": 3}, TypeError, "no setting of the layer: num_slot"),
    "routing_mode": ({"routing_mode": "best"}, ValueError, "wanted softmax, top1, topk or external, got 'best'"),
    "no external weights": ({"routing_mode": "external"}, ValueError, "needs read_weights_override"),
    "routing_noise": ({"routing_noise": "pink"}, ValueError, "wanted None, 'gumbel' or 'gaussian', got 'pink'"),
    "slot_mask": ({"slot_mask": torch.ones(2)}, ValueError, r"wanted shape \[3\], one number a slot, got \[2\]"),
    "slot_mask_where": (
        {"slot_mask_where": "write"},
        ValueError,
        "slot_mask_where: wanted one of read, .*, got 'write'",
    ),
    "slot_mask_scope": ({"slot_mask_scope": "none"}, ValueError, "slot_mask_scope: wanted one of all, .*, got 'none'"),
    "write_mode": ({"write_mode": "fast"}, ValueError, "wanted 'reference' or 'exact', got 'fast'"),
    "write_chunk_size": ({"write_chunk_size": -1}, ValueError, "got -1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name):
    keywords, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        asa_default(random_input(), random_state(), **keywords)


@pytest.mark.parametrize("name", ["_intv_mode", "_intv_score_kind", "_intv_tau_kind", "_intv_mask_mode", "info_level"])
def test_what_an_intervention_refuses(name):
    keywords = {"_intv_mode": "orth_gate", name: "odd"}
    with pytest.raises(ValueError, match=f"{name}: wanted .* got 'odd'"):
        asa_intervene(random_input(), random_state(), **keywords)


@pytest.mark.parametrize("twin", [asa_online, asa_intervene])
def test_only_the_default_layer_has_a_chunk_of_the_whole_sequence(twin):
    with pytest.raises(ValueError, match="wants 1 or more, got 0"):
        twin(random_input(), random_state(), write_chunk_size=0)
    whole = asa_default(random_input(), random_state(), write_chunk_size=0)[0]
    assert_close(whole, asa_default(random_input(), random_state(), write_chunk_size=7)[0])
