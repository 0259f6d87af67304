"""`trialplate sae eval`: a coder beside a random one, on rows that it was not trained on; with a model also what is kept of it, and SAEBench's files."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import invoke, refused, study

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.evaluate import core_scores
from trialplate.sae.formats import coder_digest, load_coder, saelens
from trialplate.sae.programs.results import read_result
from trialplate.sae.saebench_json import check
from trialplate.sae.source import from_tensor, split
from trialplate.tasks.planted_dictionaries import planted

SMALL = ("--d-sae", 12, "--k", 2, "--steps", 40, "--batch-size", 64, "--lr", 1e-2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Rows of 8 channels, and a coder that was trained on four fifths of them."""
    folder = tmp_path_factory.mktemp("eval")
    x = torch.from_numpy(planted("independent", 12, 8, 600, 2.0, np.random.default_rng(0)).x)
    save_file({"x": x, "documents": torch.arange(600) // 20}, folder / "x.safetensors")
    save_file({"x": x + 0.1}, folder / "other.safetensors")
    study("sae", "train", "--rows", folder / "x.safetensors", "--output-dir", folder, *SMALL)
    (coder,) = (folder / "coders").iterdir()
    coder.rename(folder / "coder")
    return folder


def evaluated(place, out, *more, rows="x.safetensors"):
    folder = study(
        "sae", "eval", "--checkpoint", place / "coder", "--rows", place / rows, "--output-dir", out, "--no-plot", *more
    )
    return folder, read_result(folder, "eval")


def test_a_coder_is_judged_on_the_rows_that_were_held_out(place, tmp_path):
    _, found = evaluated(place, tmp_path)
    result = found["result"]
    assert result["rows_seen_in_training"] == "no"
    documents = torch.arange(600) // 20
    whole = from_tensor(planted_rows(), name="x.safetensors", documents=documents)
    own = core_scores(load_coder(place / "coder"), split(whole, 0.2, 0)[1])
    assert result["core"]["estimates"]["ev"]["value"] == pytest.approx(own.ev.value)
    assert result["core"]["n_tokens"] == own.n_tokens == 120
    assert result["core"]["explained_variance"]["about_mean"] == pytest.approx(own.ev.value)
    density = result["core"]["density"]
    assert sum(density["latents"]) + density["dead"] == 12


def planted_rows():
    return torch.from_numpy(planted("independent", 12, 8, 600, 2.0, np.random.default_rng(0)).x)


def test_a_random_coder_is_measured_beside_and_is_worse(place, tmp_path):
    _, found = evaluated(place, tmp_path)
    ours, random = found["result"]["core"], found["result"]["random"]
    assert ours["estimates"]["ev"]["value"] > random["estimates"]["ev"]["value"] + 0.1
    assert ours["estimates"]["l0"]["value"] == pytest.approx(random["estimates"]["l0"]["value"], abs=0.2)
    assert found["subject"]["random"] != found["subject"]["coder"] == coder_digest(load_coder(place / "coder"))
    _, bare = evaluated(place, tmp_path, "--no-random-control")
    assert bare["result"]["random"] is None


@pytest.mark.parametrize("options", [("--all-rows",), ("--seed", 3), ("--held-out", 0.5)], ids=["all", "another split", "a larger share"])  # fmt: skip
def test_rows_that_it_was_trained_on_are_refused(options, place, tmp_path):
    done = invoke("sae", "eval", "--checkpoint", place / "coder", "--rows", place / "x.safetensors", "--output-dir", tmp_path, *options)  # fmt: skip
    refused(done, "was trained on a part of these rows")
    assert list(tmp_path.iterdir()) == []


def test_other_rows_are_judged_and_nothing_is_claimed_of_them(place, tmp_path):
    _, found = evaluated(place, tmp_path, "--all-rows", rows="other.safetensors")
    assert found["result"]["rows_seen_in_training"] == "unknown"
    assert found["result"]["core"]["n_tokens"] == 600


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--probe", "colour"), "colour"),
        (("--probe", "novels:file.jsonl"), "no reader 'novels'"),
        (("--cebench", "both"), "--cebench: wanted paper or released"),
        (("--pairs", "pairs.jsonl"), "--pairs are for --cebench"),
        (("--probe", "domain"), "probes and contrasts read texts with a model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_measured_is_said_in_one_line(options, text, place, tmp_path):
    done = invoke("sae", "eval", "--checkpoint", place / "coder", "--rows", place / "x.safetensors", "--output-dir", tmp_path, *options)  # fmt: skip
    refused(done, text)


def test_of_several_coders_none_is_judged_silently(place, tmp_path):
    done = invoke("sae", "eval", "--checkpoint", place / "coder", place / "coder2", "--rows", place / "x.safetensors", "--output-dir", tmp_path)  # fmt: skip
    refused(done, "--checkpoint: wanted one coder, got 2")


@pytest.fixture
def labelled(tmp_path):
    """News of two kinds in the form of AG News, and pairs of stories in that of CE-Bench."""
    news = [
        {"text": f"{text} {number}", "label": label}
        for number in range(30)
        for label, text in enumerate(("The team won game", "The bank lost share"))
    ]
    pairs = [{"subject": f"s{i}", "story1": f"the cat is old {i}", "story2": f"the dog is young {i}"} for i in range(6)]
    for name, rows in (("news", news), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_with_a_model_there_is_more_and_saebench_has_it_too(labelled, tmp_path):
    config = CoderConfig(
        "topk", 128, 64, k=8, site_in="L1.resid_post", site_out="L1.resid_post", model="embedded:neox-tiny"
    )
    coder = initialise(Coder(config), torch.Generator().manual_seed(0)).requires_grad_(False)
    saelens.write(coder, tmp_path / "coder")
    texts = ("--task-id", "domain_prose", "--num-docs", 30, "--preservation-texts", 3)
    more = (
        "--probe",
        f"ag_news:{labelled / 'news.jsonl'}",
        "--cebench",
        "released",
        "--pairs",
        labelled / "pairs.jsonl",
    )
    folder = study("sae", "eval", "--checkpoint", tmp_path / "coder", "--output-dir", tmp_path / "out", *texts, *more)
    found = read_result(folder, "eval")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "figures/eval_plot_density.png" in manifest["files"]
    result = found["result"]
    assert result["coder"]["site_in"] == "L1.resid_post"  # model and site are those that the coder names
    assert result["preservation"]["n_tokens"] > 50
    assert result["random_preservation"]["ce_sae"]["value"] > result["preservation"]["ce_clean"]["value"]
    (probing,) = result["probing"].values()
    assert {"coder", "raw", "random", "dense"} <= set(probing["arms"])
    assert result["cebench"]["mode"] == "released"
    assert found["subject"]["weights"]
    for kind in ("core", "sparse_probing"):
        (file,) = (folder / "saebench" / kind).glob("*_eval_results.json")
        content = json.loads(file.read_text())
        check(content)
        assert content["eval_type_id"] == kind


def test_rows_are_called_held_out_only_where_that_is_known(place, tmp_path):
    """The defect: the summary of rows of which nothing was known called them held out."""
    unknown, _ = evaluated(place, tmp_path / "a", rows="other.safetensors")
    text = (unknown / "summary.md").read_text()
    assert text.startswith("# A coder on rows that it may have been trained on")
    assert "seen in training: unknown" in text
    assert "held-out" not in text.replace("--held-out", "")
    known, _ = evaluated(place, tmp_path / "b")
    text = (known / "summary.md").read_text()
    assert text.startswith("# A coder on rows that it was not trained on")
    assert "seen in training: no" in text
    assert "frac_above_1pct, frac_above_10pct: share" in text


def test_a_coder_that_is_not_there_says_what_next(tmp_path):
    done = invoke("sae", "eval", "--checkpoint", tmp_path / "none", "--rows", tmp_path / "x.npy", "--output-dir", tmp_path / "out")  # fmt: skip
    refused(done, "there is no such file or folder. Give the folder of a coder, as `sae train` names it")
