"""`asa probe` from the command line to the folder, on small random models; and what it says where it cannot."""

import json
import shutil

import pytest
import torch
import typer
from typer.testing import CliRunner

from asa.asm_lm import build_model_from_cfg
from asa.checkpoint import save_checkpoint
from asa.config import ASMTrainConfig
from asa.utils.seed import generators_kept, seed_generators
from trialplate.cli.asa_probe import probe
from trialplate.models.resolve import EMBEDDED_FOLDER

TOKENIZER = EMBEDDED_FOLDER / "neox-tiny"
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(probe)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model of two layers for the embedded vocabulary, with its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    cfg = ASMTrainConfig.from_dict(
        {"vocab_size": 2048, "embed_dim": 32, "num_layers": 2, "num_heads": 2, "num_slots": 6, "slotspace_dim": 8, "max_seq_len": 64}
    )  # fmt: skip
    with generators_kept():
        seed_generators(0)
        model = build_model_from_cfg(cfg)
    return save_checkpoint(folder / "model-step9.pt", model, cfg, step=9)


@pytest.fixture(scope="module")
def done(checkpoint, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("runs") / "one"
    result = run(checkpoint, "--outdir", outdir, "--null-models", 1, "--legacy", "--tag", "before", "--seed", 3)
    assert result.exit_code == 0, result.output
    return outdir, result


def document_of(outdir):
    return json.loads((outdir / "paris_margin.json").read_text(encoding="utf-8"))


def test_a_checkpoint_is_probed_with_the_notebook_prompts(done, checkpoint):
    outdir, result = done
    assert sorted(path.name for path in outdir.iterdir()) == ["paris_margin.json", "paris_margin.png"]
    found = document_of(outdir)
    assert (found["mode"], found["tag"], len(found["margins"])) == ("notebook", "before", 17)
    assert found["model"]["step"] == 9
    assert found["model"]["cfg"]["num_layers"] == 2
    assert found["model"]["environment"]["threads"] == 1
    assert found["settings"]["seed"] == 3
    assert found["null"]["seeds"] == [4]
    assert set(found["published"]) == {"parity", "frozen"}
    assert found["finding"] in result.output
    assert str(outdir) in result.output


def test_the_same_command_finds_the_same(done, checkpoint, tmp_path):
    assert run(checkpoint, "--outdir", tmp_path / "two", "--null-models", 1, "--legacy", "--tag", "before", "--seed", 3).exit_code == 0  # fmt: skip
    assert document_of(tmp_path / "two") == document_of(done[0])
    assert (tmp_path / "two" / "paris_margin.png").read_bytes() == (done[0] / "paris_margin.png").read_bytes()


def test_threads_and_generators_are_as_they_were(checkpoint, tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert run(checkpoint, "--outdir", tmp_path / "x", "--null-models", 1, "--layers", 0).exit_code == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_the_checkpoint_mode_compares_before_with_after(checkpoint, tmp_path):
    options = (checkpoint, "--mode", "checkpoint", "--no-null", "--layers", "1")
    assert run(*options, "--outdir", tmp_path / "before").exit_code == 0
    found = document_of(tmp_path / "before")
    assert (len(found["margins"]), found["rival"]["text"], found["null"]) == (6, " London", None)
    assert "nothing to explain here" in found["finding"]
    again = run(*options, "--bos", "--tokenizer", TOKENIZER, "--compare", tmp_path / "before/paris_margin.json", "--outdir", tmp_path / "after")  # fmt: skip
    assert again.exit_code == 0, again.output
    change = json.loads((tmp_path / "after/comparison.json").read_text())
    after = document_of(tmp_path / "after")
    assert change["mean_margin_before"] == found["mean_margin"]
    assert change["margin_deltas"][0] == pytest.approx(after["margins"][0] - found["margins"][0])
    assert after["prompts"][0]["n_tokens"] == found["prompts"][0]["n_tokens"] + 1


def test_the_character_mode_needs_neither_checkpoint_nor_tokenizer(tmp_path):
    result = run("--mode", "character", "--no-null", "--outdir", tmp_path / "x")
    assert result.exit_code == 0, result.output
    found = document_of(tmp_path / "x")
    assert (found["target"]["text"], found["rival"]["text"], len(found["margins"])) == ("P", "L", 4)
    assert found["model"]["name"] == "random weights, seed 0"


def test_the_embedded_prompts_and_other_words(checkpoint, tmp_path):
    options = ("--no-null", "--layers", "0", "--mode", "embedded", "--rival", " Rome", "--match", "output_kl", "--forcing", "head_mean")  # fmt: skip
    result = run(checkpoint, *options, "--frozen", "none", "--outdir", tmp_path / "x")
    assert result.exit_code == 0, result.output
    found = document_of(tmp_path / "x")
    assert found["rival"]["text"] == " Rome"
    assert "other words" in found["definition"]
    assert len(found["prompts"]) == 32
    assert "nothing to explain here" in found["finding"]  # random weights prefer no capital
    assert found["settings"]["comparison"]["forcing"] == "head_mean"


def test_runs_probes_is_where_probes_go(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(checkpoint, "--no-null", "--layers", "0").exit_code == 0
    (folder,) = (tmp_path / "runs" / "probes").iterdir()
    assert folder.name.endswith("Z-notebook")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--mode", "notebok"), "no prompt set 'notebok': wanted one of notebook, checkpoint, character, embedded"),
        (("--layers", "0,x"), "--layers: wanted numbers with commas between them"),
        (("--layers", "2"), "numbers from 0 to 1"),
        (("--match", "size"), "--match: wanted one of relative_norm, late_window_sd, output_kl, got 'size'"),
        (("--frozen", "upstream"), "--frozen: wanted one of downstream, layer, none"),
        (("--forcing", "all"), "--forcing: wanted one of own, head_mean"),
        (("--target", " Eiffel"), "Compare first tokens (--first-token)"),
        (("--device", "cuda:99"), "wanted device cuda:99"),
        (("--tokenizer", "/nowhere/tokenizer.json"), "/nowhere/tokenizer.json"),
        (("--compare", "/nowhere/paris_margin.json"), "/nowhere/paris_margin.json"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(checkpoint, tmp_path, options, text):
    result = run(checkpoint, *options, "--no-null", "--outdir", tmp_path / "out")
    assert result.exit_code == 2
    assert result.output.count("error: ") == 1
    assert text in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "out").mkdir()
    result = run("/nowhere.pt", "--outdir", tmp_path / "out")
    assert result.exit_code == 2
    assert "never written over another" in result.output


def test_a_checkpoint_without_tokenizer_says_how_to_name_one(checkpoint, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(checkpoint, alone / "model-step9.pt")
    result = run(alone / "model-step9.pt", "--outdir", tmp_path / "out")
    assert result.exit_code == 2
    assert "Or name the model's tokenizer with --tokenizer." in result.output


def test_a_comparison_with_something_else_is_refused(checkpoint, tmp_path):
    (tmp_path / "before.json").write_text("[1]")
    result = run(checkpoint, "--compare", tmp_path / "before.json", "--outdir", tmp_path / "out")
    assert "wanted the object of a paris_margin.json" in result.output
    assert result.exit_code == 2
