"""The keys that published checkpoints are loaded by. `golden/keys/asm-*.json` and `tests/golden_state_dict_keys.txt` are written by

    python tests/test_checkpoint_keys.py --write

from the public key lists in `golden/asa/state_dict_keys.json`; the tests compare the code with them, never the other way round."""

import json
import sys
from pathlib import Path

import pytest
import torch

from asa.asm_lm import build_model_from_cfg
from asa.checkpoint import to_naming
from asa.config import ASMTrainConfig
from trialplate.checkpoints.golden import read_golden, write_golden
from trialplate.checkpoints.keys import TensorInfo
from trialplate.checkpoints.manifest import state_manifest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "golden" / "keys"
TEXT = Path(__file__).with_name("golden_state_dict_keys.txt")
NEVER_STORED = ("_alibi_slopes", "rope.inv_freq", "rope_slotspace.inv_freq")


def public_configs():
    return json.loads((ROOT / "golden" / "asa" / "state_dict_keys.json").read_text(encoding="utf-8"))["configs"]


def name_of(config):
    return "asm-" + config["name"].replace("_", "-")


def rendered():
    """All lists as one text that a person can search: a line a key."""
    lines = []
    for path in sorted(LISTS.glob("asm-*.json")):
        golden = read_golden(path)
        lines += [f"# {golden.models[0]}: {golden.note}"]
        lines += [f"{name} {info.text}" for name, info in sorted(golden.keys.items())]
    return "\n".join(lines) + "\n"


def on_meta(config):
    """The state dict that the code makes of a public configuration, without numbers."""
    with torch.device("meta"):
        model = build_model_from_cfg(ASMTrainConfig.from_dict(config["cfg"]))
    return model, to_naming(model.state_dict(), config["naming"])


@pytest.mark.parametrize("config", public_configs(), ids=name_of)
def test_the_code_makes_the_golden_keys(config):
    golden = read_golden(LISTS / f"{name_of(config)}.json")
    _, state = on_meta(config)
    assert state_manifest(state) == golden.keys
    assert {name: list(info.shape) for name, info in golden.keys.items()} == config["keys"]


@pytest.mark.parametrize("config", public_configs(), ids=name_of)
def test_computed_buffers_are_there_under_their_names_and_never_stored(config):
    model, state = on_meta(config)
    buffers = {name.split("asa.", 1)[1] for name, _ in model.named_buffers()}
    full = model.cfg.use_rope_keys and model.cfg.use_slotspace_refine
    assert buffers == (set(NEVER_STORED) if full else {"_alibi_slopes"})
    assert not [name for name in state if name.endswith(NEVER_STORED)]


def test_the_order_of_keys_is_that_of_published_checkpoints():
    config = public_configs()[0]
    _, state = on_meta(config)
    assert list(state) == list(config["keys"])


def test_the_text_is_the_lists():
    assert TEXT.read_text(encoding="utf-8") == rendered()


def test_a_renamed_key_would_be_noticed():
    config = public_configs()[0]
    _, state = on_meta(config)
    state["blocks.0.asa.slotkeys"] = state.pop("blocks.0.asa.slot_keys")
    assert state_manifest(state) != read_golden(LISTS / f"{name_of(config)}.json").keys


def _write():
    for config in public_configs():
        keys = {name: TensorInfo("F32", tuple(shape)) for name, shape in config["keys"].items()}
        fields = ", ".join(f"{name} {value}" for name, value in config["cfg"].items())
        note = f"public key list, {config['naming']} naming; {fields}; other fields at their defaults"
        write_golden(LISTS / f"{name_of(config)}.json", [name_of(config)], keys, note=note)
    TEXT.write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    _write()
