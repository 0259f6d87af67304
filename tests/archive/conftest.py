"""Golden cases as calls of the slow twins."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from building_blocks.asa_default import asa_default
from building_blocks.asa_intervene import asa_intervene
from building_blocks.asa_online import asa_online
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden" / "asa"
TWINS = {
    "AddressedStateAttention": asa_default,
    "AddressedStateAttentionOnline": asa_online,
    "AddressedStateAttentionIntervene": asa_intervene,
}


def pytest_generate_tests(metafunc):
    """`layer_case` and `lm_case` are the golden cases of these kinds."""
    for kind in ("layer", "lm"):
        if f"{kind}_case" in metafunc.fixturenames:
            cases = [c for c in json.loads((GOLDEN / "index.json").read_text())["cases"] if c["kind"] == kind]
            metafunc.parametrize(f"{kind}_case", cases, ids=[c["name"] for c in cases])


@pytest.fixture
def golden_case():
    """golden_case(name): a case of the index by its name."""
    cases = {c["name"]: c for c in json.loads((GOLDEN / "index.json").read_text())["cases"]}
    return cases.__getitem__


@pytest.fixture
def stored():
    """stored(case): the tensors of a case's file by their prefixes: state, inputs, out, info, grad."""

    def read(case):
        tensors = load_file(GOLDEN / case["file"])
        prefixes = {"state": "state.", "inputs": "in.", "out": "out.", "info": "info.", "grad": "grad."}
        return SimpleNamespace(
            **{
                name: {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
                for name, prefix in prefixes.items()
            }
        )

    return read


@pytest.fixture
def run(stored):
    """run(case, state=None, **changes) -> (y, info) of the twin of the case's class."""

    def call(case, state=None, **changes):
        found = stored(case)
        inputs = found.inputs
        keywords = {**case["init"], **case["attrs"], **case["forward"]}
        keywords |= {name: inputs[name] for name in case["forward_tensors"]}
        if override := case.get("routing_override"):
            keywords["routing_override"] = inputs.get("routing_override", additive(inputs.get("logit_delta")))
            assert (override["type"] == "tensor") == ("routing_override" in inputs)
        return TWINS[case["cls"]](inputs["x"], state or found.state, **{**keywords, **changes})

    return call


def additive(delta):
    """The override of the golden case: softmax((read logits + delta) / temperature)."""

    def override(t0, t1, read_logits, read_logits_key, read_logits_content, ctx):
        return torch.softmax((read_logits + delta[:, None, t0:t1]) / ctx["rtemp"], dim=-1)

    return override


@pytest.fixture(scope="session")
def probe():
    """What was measured with the toy model of the probes: (model, spec, input_ids, attention_mask)."""
    from building_blocks.asm_lm import asm_lm

    spec = json.loads((GOLDEN / "probe_toy.json").read_text())
    tensors = load_file(GOLDEN / spec["state"])
    state = {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}

    def model(input_ids, **keywords):
        return asm_lm(input_ids, state, spec["cfg"], **keywords)

    return model, spec, tensors["in.input_ids"], tensors["in.attention_mask"]
