"""Every study of coders as a command: it ends with a result file that is evidence, named after its role, with headline and log."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import invoke, refused, study

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.formats import coder_digest, load_coder, saelens
from trialplate.sae.programs.results import read_result
from trialplate.tasks.planted_circuit import planted_circuit
from trialplate.tasks.planted_dictionaries import planted

SMALL = ("--d-sae", 16, "--k", 2, "--steps", 12, "--batch-size", 64, "--lr", 1e-2)
STUDIES = {
    "control": ("phase4a", ("--seeds", 1, 2, 3)),
    "ablate": ("ablation", ("--k-values", 2, 3, "--d-sae-values", 12)),
    "calibrate-l0": ("l0_calibration", ("--k-values", 2, 3, 4, "--ev-floor", 0.05, "--confirm-seeds", 11, 12, 13)),
    "assign": ("assignment", ("--lambdas", 0.1, "--ev-floor", 0.05, "--seeds", 1, 2, 3)),
    "frontier": ("frontier", ("--architectures", "topk", "batchtopk", "--l0-targets", 2)),
    "scaling": ("scaling", ("--token-budgets", 100, 200, "--passes", 4, "--seeds", 4, 5, 6)),
    "transcoder-stress": ("transcoder", ("--hook-name", "a", "--hook-name-out", "b", "--ev-floor", 0.05)),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Rows of 8 channels with targets of 6, a planted embedding, and four coders in folders: three of a kind, and a file that is none."""
    folder = tmp_path_factory.mktemp("coders")
    x = torch.from_numpy(planted("independent", 12, 8, 500, 2.0, np.random.default_rng(0)).x)
    y = x @ torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    save_file({"x": x}, folder / "x.safetensors")
    save_file({"x": x, "y": y}, folder / "pairs.safetensors")
    np.save(folder / "embedding.npy", planted_circuit(31, 8, 2, 1, np.random.default_rng(2)).embedding)
    for seed in (1, 2, 3):
        coder = initialise(Coder(CoderConfig("topk", d_in=8, d_sae=16, k=2)), torch.Generator().manual_seed(seed))
        saelens.write(coder.requires_grad_(False), folder / f"seed{seed}")
    return folder


@pytest.mark.parametrize("command", STUDIES)
def test_a_study_ends_with_evidence(command, place, tmp_path):
    role, options = STUDIES[command]
    rows = place / ("pairs.safetensors" if command == "transcoder-stress" else "x.safetensors")
    folder = study("sae", command, "--rows", rows, "--output-dir", tmp_path, "--no-plot", *SMALL, *options)
    found = read_result(folder, role)  # schema, hashes of all files, configuration, no NaN
    assert found["subject"]["rows" if command != "scaling" else "sites"]
    assert found["config"]["held_out"] == 0.2
    assert (folder / "summary.md").read_text().startswith("# ")
    said = json.loads((folder / "manifest.json").read_text())["command"]
    assert said[1:3] == ["sae", command]
    assert "--batch-size" in said
    assert found["run"] in (tmp_path / "EXPERIMENT_LOG.md").read_text()


def test_a_decision_says_its_status(place, tmp_path):
    options = ("--k-values", 2, 3, 4, "--ev-floor", 0.999, "--confirm-seeds", 11, 12, 13)
    done = invoke(
        "sae",
        "calibrate-l0",
        "--rows",
        place / "x.safetensors",
        "--output-dir",
        tmp_path,
        "--no-plot",
        *SMALL,
        *options,
    )
    assert done.exit_code == 0
    assert "no_candidate, no k" in done.output


def test_coders_are_kept_when_asked_for(place, tmp_path):
    options = ("--k-values", 2, "--seeds", 1, 2, 3, "--keep-coders")
    folder = study(
        "sae", "ablate", "--rows", place / "x.safetensors", "--output-dir", tmp_path, "--no-plot", *SMALL, *options
    )
    kept = [coder_digest(load_coder(path)) for path in (folder / "coders").iterdir()]
    (coders,) = read_result(folder, "ablation")["subject"]["coders"].values()
    assert sorted(kept) == sorted(coders.values())


def test_the_worst_of_a_grid_is_the_result(place, tmp_path):
    options = ("--hook-name", "a", "--hook-name-out", "b", "--ev-floor", 0.05, "--k-values", 2, 3)
    folder = study("sae", "transcoder-stress", "--rows", place / "pairs.safetensors", "--output-dir", tmp_path, "--no-plot", *SMALL, *options)  # fmt: skip
    result = read_result(folder, "transcoder")["result"]
    assert (result["n_conditions"], result["rule"]) == (2, "the worst of all conditions")


def test_a_candidate_lends_its_shape_and_its_name(place, tmp_path):
    options = ("--hook-name", "a", "--hook-name-out", "b", "--ev-floor", 0.05, "--checkpoint", place / "seed1")
    folder = study("sae", "transcoder-stress", "--rows", place / "pairs.safetensors", "--output-dir", tmp_path, "--no-plot", *SMALL[4:], *options)  # fmt: skip
    found = read_result(folder, "transcoder")
    assert found["subject"]["candidate"] == coder_digest(load_coder(place / "seed1"))
    assert (found["result"]["conditions"][0]["d_sae"], found["result"]["conditions"][0]["k"]) == (16, 2)


def test_stability_of_given_coders(place, tmp_path):
    paths = [place / f"seed{seed}" for seed in (1, 2, 3)]
    folder = study(
        "sae",
        "stability",
        "--checkpoint",
        *paths,
        "--rows",
        place / "x.safetensors",
        "--output-dir",
        tmp_path,
        "--no-plot",
    )
    found = read_result(folder, "stability")
    assert set(found["subject"]["coders"]) == {"seed1", "seed2", "seed3"}
    assert abs(found["result"]["statistics"]["matched_cosine"]["adjusted"]["value"]) < 0.3  # random coders: chance
    bare = study("sae", "stability", "--checkpoint", *paths, "--output-dir", tmp_path, "--no-plot")
    assert read_result(bare, "stability")["subject"]["rows"] == ""


def test_two_coders_have_no_stability(place, tmp_path):
    done = invoke(
        "sae", "stability", "--checkpoint", place / "seed1", place / "seed2", "--output-dir", tmp_path, "--no-plot"
    )
    refused(done, "wanted at least 3 coders, got 2")


def test_given_coders_are_compared_with_controls(place, tmp_path):
    paths = [place / f"seed{seed}" for seed in (1, 2, 3)]
    folder = study(
        "sae",
        "control",
        "--checkpoint",
        *paths,
        "--rows",
        place / "x.safetensors",
        "--output-dir",
        tmp_path,
        "--no-plot",
    )
    result = read_result(folder, "phase4a")["result"]
    assert result["conclusion"] == "no_training_signal"  # they were never trained


@pytest.fixture
def quick(monkeypatch):
    """The control that trains a coder has passed: what it does is tested where it is."""
    from trialplate.sae.programs import circuit

    monkeypatch.setattr(circuit, "dictionary_control", lambda options: {"passed": True, "f1": 1.0, "f1_of_random": 0.0})


def test_a_circuit_of_an_embedding_and_an_unreadable_coder(place, quick, tmp_path):
    paths = [*(place / f"seed{seed}" for seed in (1, 2, 3)), place / "embedding.npy"]
    options = (
        "--embedding",
        place / "embedding.npy",
        "--n-frequencies",
        2,
        "--rows",
        place / "x.safetensors",
        "--draws",
        20,
    )
    folder = study("sae", "circuit", "--checkpoint", *paths, "--output-dir", tmp_path, "--no-plot", *options)
    result = read_result(folder, "circuit")["result"]
    assert (result["status"], result["n_given"], result["n_evaluated"]) == ("incomplete", 4, 3)
    assert "embedding.npy" in result["unread"]
    assert result["embedding"]["above_null"] > 0.3


def test_a_planted_circuit_is_tried_where_none_is_given(quick, tmp_path):
    options = (
        "--n-rows",
        2000,
        "--steps",
        30,
        "--draws",
        20,
        "--n",
        31,
        "--d",
        16,
        "--n-frequencies",
        2,
        "--d-sae",
        12,
    )
    folder = study("sae", "circuit", "--output-dir", tmp_path, "--no-plot", *options)
    result = read_result(folder, "circuit")["result"]
    assert all(control["passed"] for control in result["controls"].values())
    assert result["n_evaluated"] == 3
    assert result["status"] in ("recovered", "not recovered")


def test_the_official_packages_are_not_run_by_default(place, tmp_path):
    options = (
        "--checkpoint",
        place / "seed1",
        "--model-name",
        "m",
        "--hook-name",
        "h",
        "--benchmarks",
        "saebench_core",
    )
    done = invoke("sae", "external", "--output-dir", tmp_path, "--no-plot", *options)
    assert done.exit_code == 0
    assert "Official packages: planned" in done.output


def test_asked_to_execute_and_nothing_ran_is_no_success(place, tmp_path):
    """The defect: a harness ended with 0 where nothing was attempted."""
    options = (
        "--checkpoint",
        place / "seed1",
        "--model-name",
        "m",
        "--hook-name",
        "h",
        "--benchmarks",
        "saebench_core",
    )
    done = invoke(
        "sae", "external", "--execute", "--python", "no-such-python", "--output-dir", tmp_path, "--no-plot", *options
    )
    assert done.exit_code == 4
    assert "no program no-such-python" in done.output


def test_the_exit_status_is_that_of_the_worst_command(tmp_path):
    command = '["python3", "-c", "raise SystemExit(7)"]'
    done = invoke("sae", "external", "--execute", "--saebench-command", command, "--output-dir", tmp_path, "--no-plot")
    assert done.exit_code == 7
    done = invoke("sae", "external", "--saebench-command", "a && b", "--output-dir", tmp_path, "--no-plot")
    refused(done, "no shell reads this command")


def test_a_coder_of_another_model_is_not_handed_to_the_packages(tmp_path):
    coder = Coder(CoderConfig("topk", d_in=8, d_sae=16, k=2, model="pythia-70m")).requires_grad_(False)
    saelens.write(coder, tmp_path / "coder")
    options = ("--checkpoint", tmp_path / "coder", "--model-name", "gpt2-small", "--hook-name", "blocks.0.hook_mlp_out")
    done = invoke("sae", "external", "--output-dir", tmp_path / "out", "--no-plot", *options)
    refused(done, "made for the model pythia-70m, and --model-name is gpt2-small")


def test_budgets_above_all_rows_are_refused_before_training(place, tmp_path):
    options = ("--token-budgets", 5000, 9000, "--seeds", 1, 2, 3)
    done = invoke("sae", "scaling", "--rows", place / "x.safetensors", "--output-dir", tmp_path, "--no-plot", *SMALL, *options)  # fmt: skip
    refused(done, "the least budget is 5000 unique tokens, and there are 400 to train on")
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_is_missing_says_why_in_the_headline(place, tmp_path):
    options = ("--token-budgets", 100, 9000, "--seeds", 1, 2, 3)
    done = invoke("sae", "scaling", "--rows", place / "x.safetensors", "--output-dir", tmp_path, "--no-plot", *SMALL, *options)  # fmt: skip
    assert done.exit_code == 0
    assert "9000 tokens, width 16: 9000 unique tokens were asked for, and there are 400" in done.output
