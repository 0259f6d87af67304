"""The slow twin of the language model reproduces the golden logits under both namings, and the greedy continuation."""

import pytest
import torch
from building_blocks.asm_lm import asm_greedy, asm_lm, with_usual_names
from torch.testing import assert_close


def test_golden_logits(lm_case, stored):
    found = stored(lm_case)
    mask = found.inputs.get("attention_mask")
    logits, infos = asm_lm(found.inputs["input_ids"], found.state, lm_case["cfg"], attention_mask=mask)
    assert_close(logits, found.out["logits"], **lm_case["tolerance"])
    assert sorted(lm_case["info"]) == sorted(found.info)
    for name, value in found.info.items():
        layer, _, entry = name.partition(".")
        assert_close(infos[int(layer)][entry], value, **lm_case["tolerance"])


@pytest.fixture
def greedy(golden_case, stored):
    """The golden case of greedy decoding: (input ids, weights, cfg, tokens that follow)."""
    case = golden_case("lm_greedy")
    ids, whole = stored(case).inputs["input_ids"], stored(case).out["tokens"]
    assert whole[:, : ids.shape[1]].tolist() == ids.tolist()
    return ids, stored({"file": case["state_from"]}).state, case["cfg"], whole[0, ids.shape[1] :].tolist()


def test_golden_greedy_tokens(greedy):
    ids, state, cfg, wanted = greedy
    found = asm_greedy(ids, state, cfg, max_new_tokens=len(wanted))
    assert found[0, ids.shape[1] :].tolist() == wanted


def test_greedy_stops_at_the_end_of_text(greedy):
    ids, state, cfg, wanted = greedy
    found = asm_greedy(ids, state, cfg, max_new_tokens=5, eos_id=wanted[0])
    assert found[0, ids.shape[1] :].tolist() == wanted[:1]


def test_controls_reach_one_layer_and_outputs_can_be_moved(golden_case, stored):
    case = golden_case("lm_asm")
    state, ids = stored(case).state, stored(case).inputs["input_ids"][:, :9]
    plain, infos = asm_lm(ids, state, case["cfg"])
    held = {1: {"routing_override": infos[1]["read_weights"]}}
    assert_close(asm_lm(ids, state, case["cfg"], layer_controls=held)[0], plain)
    other = asm_lm(ids, state, case["cfg"], layer_controls={1: {"routing_mode": "top1"}})[1]
    assert_close(other[0]["read_weights"], infos[0]["read_weights"])
    assert (other[1]["read_weights"] > 0).sum(-1).unique().tolist() == [1]
    assert (asm_lm(ids, state, case["cfg"], after_block={0: lambda x: 2 * x})[0] - plain).abs().max() > 1e-3


def test_names_of_both_public_namings_are_the_same_names():
    names = (
        "token_emb.weight",
        "pos_emb.weight",
        "blocks.1.ln_1.bias",
        "blocks.1.attn.slot_keys",
        "blocks.1.ln_2.bias",
        "ln_f.weight",
    )
    found = with_usual_names(dict.fromkeys(names))
    assert list(found) == [
        "tok.weight",
        "pos.weight",
        "blocks.1.norm1.bias",
        "blocks.1.asa.slot_keys",
        "blocks.1.norm2.bias",
        "norm.weight",
    ]
    assert list(with_usual_names(found)) == list(found)


def test_more_tokens_than_the_model_reads_are_refused(golden_case, stored):
    case = golden_case("lm_asm")
    with pytest.raises(ValueError, match="65 tokens, and the model reads at most 64"):
        asm_lm(torch.zeros(1, 65, dtype=torch.long), stored(case).state, case["cfg"])
