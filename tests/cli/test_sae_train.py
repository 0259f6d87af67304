"""`trialplate sae train`: coders in folders of their own, held-out numbers, and a run that goes on as if it had not stopped."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import invoke, refused, study

from trialplate.cli import sae_train
from trialplate.sae.formats import coder_digest, load_coder
from trialplate.sae.programs.results import read_result
from trialplate.tasks.planted_dictionaries import planted

SMALL = ("--d-sae", 16, "--k", 2, "--steps", 8, "--batch-size", 32, "--lr", 1e-2)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of 8 channels with 12 planted features, and targets of 6 channels."""
    folder = tmp_path_factory.mktemp("rows")
    x = planted("independent", 12, 8, 400, 2.0, np.random.default_rng(0)).x
    map_ = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
    np.save(folder / "x.npy", x)
    save_file({"x": torch.from_numpy(x), "y": torch.from_numpy(x @ map_)}, folder / "pairs.safetensors")
    return folder


def coder_folders(place):
    return sorted(path for path in place.iterdir() if path.is_dir())


def trained(rows, out, *more, source="x.npy"):
    folder = study("sae", "train", "--rows", rows / source, "--output-dir", out, *SMALL, *more)
    return read_result(folder, "training"), coder_folders(out / "coders")


def test_every_architecture_and_seed_has_a_folder_that_is_read(rows, tmp_path):
    found, folders = trained(rows, tmp_path, "--architectures", "topk", "batchtopk", "--seeds", 1, 2)
    assert len(folders) == 4
    named = {one["name"]: one for one in found["result"]["coders"]}
    for folder in folders:
        coder = load_coder(folder)
        assert coder_digest(coder) == found["subject"]["coders"][folder.name]
        assert (coder.config.d_in, coder.config.d_sae, coder.config.k) == (8, 16, coder.config.k)
        lines = (folder / "metrics.ndjson").read_text().splitlines()
        assert json.loads(lines[-1])["step"] == 8
        about = json.loads((folder / "training.json").read_text())
        assert about["finished"]
        assert named[folder.name]["held_out"]["n_rows"] == 80
        assert about["rows"]["held_out"] == found["subject"]["held_out"]
    assert {(one["architecture"], one["seed"]) for one in named.values()} == {(a, s) for a in ("topk", "batchtopk") for s in (1, 2)}  # fmt: skip


def test_widths_and_k_make_a_grid_and_what_has_no_k_is_driven_to_it(rows, tmp_path):
    found, folders = trained(
        rows, tmp_path, "--architectures", "topk", "relu", "--d-sae-values", 8, 16, "--k-values", 2, 3
    )
    assert len(folders) == 8
    coders = found["result"]["coders"]
    topk = {(one["d_sae"], one["k"]) for one in coders if one["architecture"] == "topk"}
    targets = {one["settings"]["l0_target"] for one in coders if one["architecture"] == "relu"}
    assert topk == {(8, 2), (8, 3), (16, 2), (16, 3)}
    assert targets == {2.0, 3.0}


def test_a_second_site_makes_transcoders(rows, tmp_path):
    _, (folder,) = trained(
        rows, tmp_path, "--hook-name", "a", "--hook-name-out", "b", "--skip", source="pairs.safetensors"
    )
    config = load_coder(folder).config
    assert (config.d_in, config.d_out, config.skip, config.centre_input) == (8, 6, True, False)
    assert (config.site_in, config.site_out) == ("a", "b")


def test_a_coder_is_not_trained_over_another(rows, tmp_path):
    trained(rows, tmp_path)
    done = invoke("sae", "train", "--rows", rows / "x.npy", "--output-dir", tmp_path, *SMALL)
    refused(done, "never trained over another: go on with it (--resume), or choose another folder (--coders)")


def test_a_stopped_run_goes_on_to_the_same_bits(rows, tmp_path, monkeypatch):
    _, (whole,) = trained(rows, tmp_path / "whole", "--checkpoint-every", 3)

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    class Watched:
        def __enter__(self):
            return stop

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(sae_train, "_watched", Watched)
    arguments = (
        "sae",
        "train",
        "--rows",
        rows / "x.npy",
        "--output-dir",
        tmp_path / "again",
        *SMALL,
        "--checkpoint-every",
        3,
    )
    done = invoke(*arguments)
    assert done.exit_code == sae_train.STOPPED
    assert "go on with the same command and --resume" in done.output
    monkeypatch.undo()
    study(*arguments, "--resume")
    (again,) = coder_folders(tmp_path / "again" / "coders")
    for name, tensor in load_file(whole / "sae_weights.safetensors").items():
        assert torch.equal(tensor, load_file(again / "sae_weights.safetensors")[name]), name
    assert (whole / "metrics.ndjson").read_text() == (again / "metrics.ndjson").read_text()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--architecture", "gated"), "can be read and judged, not trained"),
        (
            ("--architecture", "topkk"),
            "relu, topk, batchtopk, jumprelu, routed, or gated where a coder is read (is it topk?)",
        ),
        (("--k", 17), "wanted k between 1 and d_sae"),
        (("--backend", "triton"), "--backend: wanted one of sparse, numba, autograd"),
        (("--order", "mixed"), "--order: wanted shared or own"),
        (("--prefixes", "4", "x"), "--prefixes: wanted whole numbers, got 'x'"),
        (("--held-out", "1"), "share of rows to hold out"),
        (("--seeds", "1", "1"), "--seeds: 1 is there more than once"),
        (("--seeds", ""), "--seeds: nothing is in it"),
        (("--k-values", ""), "--k-values: nothing is in it"),
        (("--l0-target", "0"), "--l0-target: wanted active latents a token, more than 0, got 0"),
        (("--l0-target", "4"), "--l0-target is what relu and jumprelu are driven to, and topk"),
        (("--skip",), "--skip is a path of transcoders, from one site to another: give --hook-name-out"),
        (("--lr", "nan"), "a positive finite number"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_trained_is_said_in_one_line(options, text, rows, tmp_path):
    more = SMALL[2:] if options[0] == "--k" else SMALL
    refused(
        invoke("sae", "train", "--rows", rows / "x.npy", "--output-dir", tmp_path, "--d-sae", 16, *more[2:], *options),
        text,
    )
    assert not (tmp_path / "coders").exists()


def coder_of(**held_out):
    known = {"ev": 0.5, "l0": 8.0, "dead_frac": 0.1}
    return {"name": "relu-m16", "held_out": {**known, **held_out}, "settings": {"l0_target": 8.0}}


@pytest.mark.parametrize(
    ("held_out", "texts"),
    [
        ({}, []),
        ({"l0": 8.7}, []),  # 8.75 % off: within the 10 % that are let pass
        ({"l0": 10.0}, ["its L0 is 10, +25% of the target 8"]),
        ({"l0": 6.0}, ["its L0 is 6, -25% of the target 8"]),
        ({"ev": -0.2}, ["its explained variance is -0.2, so the mean of the rows reconstructs better"]),
        ({"dead_frac": 1.0, "l0": 0.0, "ev": 0.0}, ["none of its latents ever fires", "its L0 is 0, -100%"]),
    ],
    ids=["good", "near", "above", "below", "worse than the mean", "silent"],
)
def test_what_the_table_would_hide_is_warned_of(held_out, texts):
    found = sae_train.warnings_of({"coders": [coder_of(**held_out)]})
    assert len(found) == len(texts)
    for line, text in zip(found, texts, strict=True):
        assert line.startswith("relu-m16: ")
        assert text in line


def test_a_warning_is_on_the_error_stream_and_in_the_summary(rows, tmp_path):
    """Eight steps are too few to drive relu to 2 latents of 16."""
    done = invoke("sae", "train", "--rows", rows / "x.npy", "--output-dir", tmp_path, *SMALL, "--architecture", "relu", "--l0-target", 2)  # fmt: skip
    assert done.exit_code == 0
    (line,) = [line for line in done.stderr.splitlines() if "of the target 2" in line]
    assert line.startswith("warning: relu-")
    (summary,) = tmp_path.glob("*-training/summary.md")
    assert line in summary.read_text()
    assert "warning: " not in done.stdout


def test_a_summary_begins_with_what_it_is_of(rows, tmp_path):
    options = ("--hook-name", "L1.resid_post", "--model-name", "pythia-70m")
    folder = study("sae", "train", "--rows", rows / "x.npy", "--output-dir", tmp_path, *SMALL, *options)
    title, blank, origin, *_ = (folder / "summary.md").read_text().splitlines()
    assert (title, blank) == ("# Coders that were trained", "")
    (digest,) = read_result(folder, "training")["subject"]["coders"].values()
    assert origin.startswith(f"model pythia-70m; site L1.resid_post; coder {digest[:12]}; command `")
    assert "sae train --rows" in origin
