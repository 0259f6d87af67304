"""The toy model of the golden data: four layers with random weights, seventeen prompts of a word tokenizer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.config import ASMTrainConfig
from trialplate.routing.encoding import EncodedPrompts
from trialplate.routing.probe import ProbeSettings, run_probe
from trialplate.routing.prompts import NOTEBOOK
from trialplate.routing.results import document
from trialplate.routing.undisturbed import observe

GOLDEN = Path(__file__).parents[2] / "golden" / "asa"


@dataclass(frozen=True)
class Toy:
    """The model, its prompts, and what the published notebooks computed on them."""

    model: ASMLanguageModel
    prompts: EncodedPrompts
    golden: dict[str, Any]

    @property
    def words(self):
        return self.prompts.target_id, self.prompts.rival_id


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy():
    golden = json.loads((GOLDEN / "probe_toy.json").read_text(encoding="utf-8"))
    tensors = load_file(GOLDEN / "probe_toy.safetensors")
    model = build_model_from_cfg(ASMTrainConfig.from_dict(golden["cfg"]))
    model.load_state_dict({k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")})
    ids, mask = tensors["in.input_ids"], tensors["in.attention_mask"].bool()
    words = golden["target_id"], golden["rival_id"]
    return Toy(model.eval(), EncodedPrompts(NOTEBOOK, ids, mask, *words, False), golden)


@pytest.fixture(scope="session")
def seen(toy):
    return observe(toy.model, toy.prompts.ids, toy.prompts.mask)


@pytest.fixture(scope="session")
def toy_run(toy):
    return run_probe(toy.model, toy.prompts, ProbeSettings(n_null=2, published=True, basin_grid=3, bootstrap_draws=300))


@pytest.fixture(scope="session")
def toy_document(toy_run):
    return document(toy_run, lambda ids: f"<{ids[0]}>", {"name": "toy"}, "a tag")
