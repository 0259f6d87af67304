"""What the commands about coders share: rows from a file, a folder or a model, coders by their paths, the command as a manifest has it."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import invoke, refused, study

from trialplate.cli.sae_inputs import (
    RowOptions,
    RunOptions,
    decimal_numbers,
    names_of,
    open_rows,
    open_sites,
    whole_numbers,
)
from trialplate.cli.sae_stress import at_mlp
from trialplate.cli.study_inputs import InputError, joined_lists
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError


def values(n=40, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def all_rows(source):
    return source.rows(torch.arange(source.n_rows))


def test_rows_of_an_array(tmp_path):
    np.save(tmp_path / "rows.npy", values().numpy())
    opened = open_rows(RowOptions(rows=tmp_path / "rows.npy", hook_name="L1.resid_post"), RunOptions())
    assert torch.equal(all_rows(opened.rows)[0], values())
    assert (opened.site_in, opened.site_out, opened.model_name) == ("L1.resid_post", "L1.resid_post", "")
    assert not opened.rows.is_paired


def test_rows_of_tensors_with_targets_and_documents(tmp_path):
    documents = torch.arange(40) // 4
    save_file({"x": values(), "y": values(40, 3, 1), "documents": documents}, tmp_path / "rows.safetensors")
    opened = open_rows(RowOptions(rows=tmp_path / "rows.safetensors"), RunOptions())
    x, y = all_rows(opened.rows)
    assert torch.equal(x, values())
    assert torch.equal(y, values(40, 3, 1))
    train, held_out = opened.split(RowOptions(held_out=0.25), seed=0)
    assert not set(train.documents.tolist()) & set(held_out.documents.tolist())


@pytest.mark.parametrize(
    ("tensors", "text"),
    [({"a": values(), "b": values()}, "wanted one tensor, or x with y"), ({"x": values(), "z": values()}, "got x, z")],
    ids=["two of other names", "one too many"],
)
def test_tensors_that_are_no_rows(tensors, text, tmp_path):
    save_file(tensors, tmp_path / "rows.safetensors")
    with pytest.raises(InputError, match=text):
        open_rows(RowOptions(rows=tmp_path / "rows.safetensors"), RunOptions())


def test_rows_that_are_not_finite_are_refused(tmp_path):
    broken = values()
    broken[3, 2] = float("nan")
    np.save(tmp_path / "rows.npy", broken.numpy())
    with pytest.raises(TrainingError, match="not all of its numbers are finite"):
        open_rows(RowOptions(rows=tmp_path / "rows.npy"), RunOptions())


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 no archive"])
def test_a_file_that_is_no_array_is_named(content, tmp_path):
    (tmp_path / "rows.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"--rows .*rows\.npy is no array of numpy"):
        open_rows(RowOptions(rows=tmp_path / "rows.npy"), RunOptions())


def test_pickles_are_not_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="allow_pickle"):
        open_rows(RowOptions(rows=tmp_path / "rows.npy"), RunOptions())


def test_rows_of_a_folder_of_capture(neox, manifest, tmp_path):
    folder = study("capture", "--model", neox, "--probe-manifest", manifest, "--layers", "0", "1", "--site", "resid_post", "--output-dir", tmp_path)  # fmt: skip
    with pytest.raises(InputError, match=r"L0\.resid_post, L1\.resid_post; choose one by --hook-name"):
        open_rows(RowOptions(rows=folder), RunOptions())
    opened = open_rows(RowOptions(rows=folder, hook_name="L1.resid_post"), RunOptions())
    assert (opened.site_in, opened.rows.d_in, opened.model_name) == ("L1.resid_post", 32, neox.name)
    both = open_sites(RowOptions(rows=folder), RunOptions(), ["0", "1"], "resid_post")
    assert list(both) == ["L0.resid_post", "L1.resid_post"]
    assert torch.equal(all_rows(both["L1.resid_post"].rows)[0], all_rows(opened.rows)[0])


def test_rows_of_a_model_are_those_of_capture(neox, manifest, tmp_path):
    folder = study("capture", "--model", neox, "--probe-manifest", manifest, "--layers", "L1.mlp_in", "L1.mlp_out", "--output-dir", tmp_path)  # fmt: skip
    sites = {"hook_name": "L1.mlp_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    read = open_rows(RowOptions(model_name=str(neox), probe_manifest=manifest, **sites), RunOptions())
    kept = open_rows(RowOptions(rows=folder, hook_name="L1.mlp_in", hook_name_out="L1.mlp_out"), RunOptions())
    assert (read.site_in, read.site_out) == ("L1.mlp_in", "L1.mlp_out")
    for one, other in zip(all_rows(read.rows), all_rows(kept.rows), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert torch.equal(read.rows.documents, kept.rows.documents)
    assert len(read.documents) == 8


def test_rows_of_another_model_than_the_coders_are_refused():
    config = CoderConfig("topk", 32, 64, k=2, site_in="L1.resid_post", site_out="L1.resid_post", model="pythia-70m")
    with pytest.raises(InputError, match="was made for the model pythia-70m, and --model-name is embedded:neox-tiny"):
        open_rows(RowOptions(model_name="embedded:neox-tiny"), RunOptions(), Coder(config))


def test_sites_from_two_places_are_refused():
    with pytest.raises(InputError, match="both say which sites are read"):
        open_sites(RowOptions(hook_name="L0.resid_post", model_name="m"), RunOptions(), ["1"], "resid_post")


def test_what_follows_a_list_option_belongs_to_it():
    given = [
        "sae",
        "train",
        "--seeds",
        "1",
        "2",
        "3",
        "--architectures",
        "topk",
        "relu",
        "--checkpoint",
        "a,b",
        "c d",
        "--k",
        "3",
    ]
    wanted = ["sae", "train", "--seeds", "1,2,3", "--architectures", "topk,relu", "--checkpoint", "a,b", "--checkpoint", "c d", "--k", "3"]  # fmt: skip
    assert joined_lists(given) == wanted
    assert joined_lists(["--checkpoint", "--seed", "1"]) == ["--checkpoint", "--seed", "1"]


def test_numbers_of_list_options():
    assert whole_numbers("--seeds", ["1,2 3"], (9,)) == (1, 2, 3)
    assert whole_numbers("--seeds", None, (9,)) == (9,)
    assert decimal_numbers("--lambdas", ["0.1", "1e-3"], ()) == (0.1, 0.001)
    for read, given in ((whole_numbers, ["1.5"]), (whole_numbers, ["-1"]), (decimal_numbers, ["x"])):
        with pytest.raises(InputError, match="--it: wanted"):
            read("--it", given, ())


def test_coders_are_called_by_what_tells_them_apart(tmp_path):
    one, two = tmp_path / "run" / "a" / "coder", tmp_path / "run" / "b" / "coder"
    assert names_of([one, two]) == ["a/coder", "b/coder"]
    assert names_of([one]) == ["coder"]
    assert names_of(None) == []
    with pytest.raises(InputError, match="named twice"):
        names_of([one, one])


COMMANDS = ("train", "control", "ablate", "calibrate-l0", "assign", "frontier", "scaling", "transcoder-stress")


@pytest.mark.parametrize("command", COMMANDS)
def test_rows_that_are_not_named_are_said_in_one_line(command, tmp_path):
    refused(invoke("sae", command, "--output-dir", tmp_path / "out"), "no rows are named")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--rows", "absent.npy"), "--rows absent.npy: there is no such file or folder"),
        (("--rows", "rows.txt"), "wanted a folder of `trialplate capture`"),
        (("--model-name", "embedded:neox-tiny"), "no rows are named"),
    ],
    ids=["absent", "another file", "no site"],
)
def test_rows_that_cannot_be_read_are_said_in_one_line(options, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text("1 2 3")
    refused(invoke("sae", "train", "--output-dir", tmp_path / "out", *options), text)
    assert not (tmp_path / "out").exists()


def test_a_group_of_the_program_without_a_command_shows_its_help():
    done = invoke("sae")
    for name in (*COMMANDS, "eval", "stability", "ood-stress", "circuit", "external"):
        assert name in done.output


@pytest.mark.parametrize(
    ("site", "given", "wanted"),
    [
        ("L2.resid_post", {}, ("L2.mlp_in", "L2.mlp_out")),
        ("L2.resid_post", {"hook_name": "a", "hook_name_out": "b"}, ("a", "b")),
        ("gpt_neox.layers.1.output", {}, (None, None)),
    ],
    ids=["the MLP of its layer", "named", "a path says no layer"],
)
def test_transcoders_stand_at_the_layer_of_the_candidate(site, given, wanted):
    candidate = Coder(CoderConfig("topk", 8, 16, k=2, site_in=site, site_out=site))
    found = at_mlp(RowOptions(**given), candidate)
    assert (found.hook_name, found.hook_name_out) == wanted


@pytest.mark.parametrize("read", [whole_numbers, decimal_numbers])
def test_a_list_that_is_given_and_empty_is_no_wish_for_the_default(read):
    """The defect: --seeds "$SEEDS" with a variable that was never set trained the default seeds."""
    with pytest.raises(InputError, match="--it: nothing is in it"):
        read("--it", [""], (1, 2))
