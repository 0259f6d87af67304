"""Studies from the command line on tiny models of two architectures: how they are run, and how their tables are read."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.models.conftest import make_folder, tokenizer_file  # noqa: F401
from tokenizers import Tokenizer
from typer.testing import CliRunner

from trialplate.cli.app import app
from trialplate.cli.study_inputs import joined_lists

FAMILIES = ("gpt2", "gpt_neox")
TEXTS = {
    "one": ["the cat and the hat is in the pan", "an ant is on the hill", "the hen and the hat is ill", "a pan on the hill in the sun is hot"],
    "two": ["1 + 2 = 3; 4 + 5 = 9", "7 - 3 = 4; 8 - 1 = 7", "2 + 2 = 4; 9 - 9 = 0; 1 + 1 = 2", "6 + 3 = 9; 5 - 4 = 1"],
}  # fmt: skip


def invoke(*arguments):
    """The program with these arguments, list options as after its name in a shell."""
    return CliRunner().invoke(app, joined_lists([str(a) for a in arguments]))


def study(*arguments):
    """The folder that a command wrote."""
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    return Path(done.output.rpartition("written: ")[2].strip())


def table(folder, suffix, task=""):
    """One table of a study; an empty cell is NaN."""
    (path,) = folder.glob(f"*{'_' + task if task else ''}_{suffix}.csv")
    return pd.read_csv(path)


def tables(folder):
    """The bytes of every table by the end of its name, which the stamp of the run is no part of."""
    return {path.name.partition("_")[2]: path.read_bytes() for path in folder.glob("*.csv")}


def refused(done, text):
    """Exit status 2 and one line that says this."""
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert text in line
    assert "Traceback" not in done.output


class Plain:
    """A model read with a plain hook, one text at a time: what the tables are checked against."""

    def __init__(self, folder):
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.layers = self.model.transformer.h if hasattr(self.model, "transformer") else self.model.gpt_neox.layers

    def ids(self, text):
        return self.tokenizer.encode(text).ids

    @torch.no_grad()
    def hidden(self, text, layer):
        """Hidden units [tokens, d_ff] of an MLP."""
        found = []
        handle = self.layers[layer].mlp.act.register_forward_hook(lambda module, args, output: found.append(output))
        self.model(torch.tensor([self.ids(text)]))
        handle.remove()
        return found[0][0]

    @torch.no_grad()
    def nats(self, text):
        """-log P of every token of a text after the end-of-text token."""
        ids = torch.tensor([[0, *self.ids(text)]])
        return torch.nn.functional.cross_entropy(self.model(ids).logits[0, :-1], ids[0, 1:], reduction="none").double()

    def down(self, layer):
        """The down projection and its rows [d_ff, d]: what every unit writes."""
        mlp = self.layers[layer].mlp
        return (mlp.c_proj, mlp.c_proj.weight) if hasattr(mlp, "c_proj") else (mlp.dense_4h_to_h, mlp.dense_4h_to_h.weight.T)  # fmt: skip


@pytest.fixture(scope="session")
def manifest(tmp_path_factory):
    """Two tasks of four texts."""
    path = tmp_path_factory.mktemp("texts") / "tasks.jsonl"
    rows = [
        {"task_id": name, "domain": "d", "source": {"type": "prompt_list", "prompts": texts}}
        for name, texts in TEXTS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=FAMILIES)
def twin(request, make_folder):  # noqa: F811
    """The folder of a tiny model: two layers, 64 (GPT-NeoX) or 128 (GPT-2) hidden units."""
    return make_folder(request.param)


@pytest.fixture
def neox(make_folder):  # noqa: F811
    return make_folder("gpt_neox")


@pytest.fixture
def broken(neox, tmp_path):
    """A model whose second layer gives NaN."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model" / "broken"
    shutil.copytree(neox, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("layers.1.mlp.dense_h_to_4h.weight"))
    weights[name][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
