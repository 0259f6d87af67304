"""Golden language models: logits and read weights of both namings, and greedy decoding across the border of a write chunk."""

import pytest
import torch
from tests.asa.golden_cases import FOLDER, arguments, of_kind, part, tensors
from torch.testing import assert_close

from asa import ASMTrainConfig, build_model_from_cfg

pytestmark = pytest.mark.fast


def build(case, state):
    from asa.checkpoint import to_naming

    cfg = ASMTrainConfig.from_dict({**case["cfg"], "mlp_bias": case["naming"] == "alt"})
    model = build_model_from_cfg(cfg).eval()
    model.load_state_dict(to_naming(state, "asm"), strict=True)
    return model


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in of_kind("lm")])
def test_logits_and_read_weights(case):
    found = tensors(case)
    model = build(case, part(found, "state."))
    with torch.no_grad():
        logits, infos = model(found["in.input_ids"], return_info=True, **arguments(case, found))
        plain = model(found["in.input_ids"], **arguments(case, found))
    assert_close(logits, found["out.logits"], **case["tolerance"])
    assert_close(plain, found["out.logits"], **case["tolerance"])
    for name, weights in part(found, "info.").items():
        layer, key = name.split(".", 1)
        assert_close(infos[int(layer)][key], weights, **case["tolerance"])


def test_greedy_by_full_forward_at_each_step():
    (case,) = of_kind("generate")
    found = tensors(case)
    model = build({**case, "naming": "asm"}, part(tensors({"file": case["state_from"]}), "state."))
    ids = found["in.input_ids"]
    with torch.no_grad():
        for _ in range(case["max_new_tokens"]):
            ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert ids.tolist() == found["out.tokens"].tolist()
    assert FOLDER.name == "asa"
