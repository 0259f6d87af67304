"""`trialplate sparsity`: the numbers in its tables are those of a plain hook, and a study is whole or not there."""

import json
import math
import re

import numpy as np
import pytest
import torch
from tests.cli.conftest import TEXTS, Plain, invoke, refused, study, table, tables

from trialplate.cli.study_inputs import one_thread
from trialplate.metrics.dimension import pr_cov_white

PROMPT = "the cat and the hat is in the pan"


def values(frame, site, positions):
    rows = frame[(frame["site"] == site) & (frame["positions"] == positions)]
    return dict(zip(rows["metric"], rows["value"], strict=True))


def test_the_shares_are_those_of_a_plain_hook_with_and_without_position_0(twin, tmp_path):
    found = table(study("sparsity", "--model", twin, "--prompt", PROMPT, "--output-dir", tmp_path, "--no-plot"), "sparsity")  # fmt: skip
    plain = Plain(twin)
    for layer in (0, 1):
        hidden = plain.hidden(PROMPT, layer).double()
        for positions, h in (("all", hidden), ("no_first", hidden[1:])):
            measured = values(found, f"L{layer}.mlp_act", positions)
            assert measured["act_frac@0"] == pytest.approx((h > 0).double().mean().item(), rel=1e-12)
            largest = h.abs().amax(1, keepdim=True)
            assert measured["act_frac@rel"] == pytest.approx(
                (h.abs() > 0.01 * largest).double().mean().item(), rel=1e-6
            )
            treves_rolls = h.abs().mean(1) ** 2 / (h**2).mean(1)
            assert measured["treves_rolls"] == pytest.approx(treves_rolls.mean().item(), rel=1e-5)
            assert measured["dead_frac"] == (h <= 0).all(0).double().mean().item()
    assert set(found["n_docs"]) == {1}
    assert found["ci_lo"].isna().all()  # one text has no spread to show


def test_relu_is_zero_where_it_does_not_fire(make_folder, tmp_path):
    folder = make_folder("gpt2", activation_function="relu")
    found = table(study("sparsity", "--model", folder, "--prompt", PROMPT, "--output-dir", tmp_path, "--no-plot"), "sparsity")  # fmt: skip
    hidden = Plain(folder).hidden(PROMPT, 1)
    measured = values(found, "L1.mlp_act", "all")
    assert measured["zero_frac"] == pytest.approx((hidden == 0).double().mean().item(), rel=1e-12)
    assert measured["zero_frac"] + measured["act_frac@0"] == pytest.approx(1, abs=1e-12)


def test_another_threshold_has_another_name(neox, tmp_path):
    found = table(study("sparsity", "--model", neox, "--prompt", PROMPT, "--threshold", "0.01", "--output-dir", tmp_path, "--no-plot"), "sparsity")  # fmt: skip
    assert "act_frac@0" not in set(found["metric"])
    share = (Plain(neox).hidden(PROMPT, 0) > 0.01).double().mean().item()
    assert values(found, "L0.mlp_act", "all")["act_frac@0.01"] == pytest.approx(share, rel=1e-12)


def test_units_and_curves_agree_with_the_shares(neox, manifest, tmp_path):
    folder = study("sparsity", "--model", neox, "--probe-manifest", manifest, "--output-dir", tmp_path, "--no-plot")
    plain = Plain(neox)
    fires = np.concatenate([(plain.hidden(text, 1)[1:] > 0).numpy() for text in TEXTS["two"]])
    units = table(folder, "units", "two")
    rates = units[units["site"] == "L1.mlp_act"]["rate"].to_numpy()
    assert rates == pytest.approx(fires.mean(0), abs=1e-12)
    found = table(folder, "sparsity", "two")
    assert values(found, "L1.mlp_act", "no_first")["act_frac@0"] == pytest.approx(fires.mean(), rel=1e-12)
    rows = found[(found["metric"] == "act_frac@0") & (found["positions"] == "no_first")]
    assert set(rows["n_tokens"]) == {len(fires)}
    assert (rows["ci_lo"] < rows["value"]).all()
    assert (rows["value"] < rows["ci_hi"]).all()
    curve = table(folder, "lorenz", "two")
    curve = curve[curve["site"] == "L1.mlp_act"]
    assert curve[["share_of_entries", "share_of_magnitude"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    assert curve["share_of_magnitude"].is_monotonic_increasing


def test_two_runs_with_one_seed_write_the_same_tables(neox, manifest, tmp_path):
    options = ("sparsity", "--model", neox, "--probe-manifest", manifest, "--covariance", "--seed", 3, "--no-plot", "--output-dir", tmp_path)  # fmt: skip
    first, second = study(*options), study(*options)
    assert first != second
    assert tables(first) == tables(second)
    assert len(tables(first)) == 6


def test_the_dimension_stands_beside_that_of_noise(neox, manifest, tmp_path):
    folder = study("sparsity", "--model", neox, "--probe-manifest", manifest, "--task-id", "one", "--covariance", "--no-plot", "--output-dir", tmp_path)  # fmt: skip
    plain = Plain(neox)
    rows = torch.cat([plain.hidden(text, 0) for text in TEXTS["one"]]).double()
    spectrum = torch.linalg.eigvalsh(torch.cov(rows.T))
    measured = values(table(folder, "sparsity", "one"), "L0.mlp_act", "all")
    assert measured["pr_cov"] == pytest.approx((spectrum.sum() ** 2 / (spectrum**2).sum()).item(), rel=1e-4)
    assert measured["pr_cov_white"] == pytest.approx(pr_cov_white(64, len(rows)))
    assert measured["erank"] < measured["erank_white"]


def test_a_repeated_prompt_counts_once(neox, tmp_path):
    (tmp_path / "tasks.jsonl").write_text(
        json.dumps({"task_id": "again", "domain": "d", "source": {"type": "prompt_list", "prompts": [PROMPT, PROMPT], "repeat": 3}})
    )  # fmt: skip
    once = study(
        "sparsity", "--model", neox, "--prompt", PROMPT, "--num-docs", 4, "--no-plot", "--output-dir", tmp_path
    )
    again = study("sparsity", "--model", neox, "--probe-manifest", tmp_path / "tasks.jsonl", "--no-plot", "--output-dir", tmp_path)  # fmt: skip
    one, other = table(once, "sparsity").drop(columns="task_id"), table(again, "sparsity").drop(columns="task_id")
    assert one.equals(other)
    assert set(one["n_docs"]) == {1}


def test_separators_are_read_and_not_counted(neox, tmp_path):
    folder = study("sparsity", "--model", neox, "--prompt", "the cat<|endoftext|>the hat", "--no-plot", "--output-dir", tmp_path)  # fmt: skip
    ids = Plain(neox).ids("the cat<|endoftext|>the hat")
    assert ids.count(0) == 1
    found = table(folder, "sparsity")
    whole = found[(found["metric"] == "act_frac@0") & (found["positions"] == "all")]
    assert set(whole["n_tokens"]) == {len(ids) - 1}
    assert json.loads((folder / "meta.json").read_text())["separators"] == {"ids": [0], "in_texts": 1, "counted": False}


def test_a_text_of_two_tokens_has_no_numbers_without_position_0(neox, tmp_path):
    done = invoke("sparsity", "--model", neox, "--prompt", "ab", "--no-plot", "--output-dir", tmp_path)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    assert set(table(folder, "sparsity")["positions"]) == {"all"}
    assert "no text has enough of them after its first" in done.output


def test_a_text_of_one_token_is_refused(neox, tmp_path):
    refused(invoke("sparsity", "--model", neox, "--prompt", "a", "--output-dir", tmp_path), "has 1 token that counts")
    assert list(tmp_path.iterdir()) == []


def test_a_study_says_what_it_is_of(neox, manifest, tmp_path):
    folder = study("sparsity", "--model", neox, "--probe-manifest", manifest, "--task-id", "one", "--layers", "50%", "--output-dir", tmp_path)  # fmt: skip
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["command"] == "sparsity"
    assert meta["sites"] == ["L1.mlp_act"]
    assert len(meta["identity"]["weights_digest"]) == 64
    assert set(meta["tasks"]) == {"one"}
    assert all(len(task["texts_sha256"]) == 64 for task in meta["tasks"].values())
    assert meta["environment"]["threads"] == 1
    names = {path.name.partition("_")[2] for path in folder.iterdir()}
    assert f"{meta['model']}_one_sparsity.csv" in names
    assert any(path.suffix == ".png" for path in (folder / "figures").iterdir())


def test_a_block_name_of_the_original_means_its_hidden_units_and_says_so(neox, tmp_path):
    done = invoke("sparsity", "--model", neox, "--prompt", PROMPT, "--layers", "model.layers.1.mlp", "--no-plot", "--output-dir", tmp_path)  # fmt: skip
    assert "was taken to mean L1.mlp_act" in done.output
    (folder,) = tmp_path.iterdir()
    assert set(table(folder, "sparsity")["site"]) == {"L1.mlp_act"}


def test_a_picture_that_cannot_be_drawn_costs_no_table(neox, tmp_path):
    more = ("--prompt", PROMPT, "--layers", "gpt_neox.final_layer_norm.output", "--output-dir", tmp_path)
    done = invoke("sparsity", "--model", neox, *more)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    assert len(table(folder, "sparsity")) > 0
    assert f"note: not drawn: {folder}" in done.output
    assert not (folder / "figures").exists()


def test_nothing_is_left_after_an_error(broken, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    refused(invoke("sparsity", "--model", broken, "--prompt", PROMPT, "--output-dir", out), "are not all finite")  # fmt: skip
    assert list(out.iterdir()) == []


def test_the_number_of_threads_is_as_it_was(neox, tmp_path):
    before = torch.get_num_threads()
    study("sparsity", "--model", neox, "--prompt", PROMPT, "--no-plot", "--output-dir", tmp_path)
    assert torch.get_num_threads() == before
    with one_thread("cpu"):
        assert torch.get_num_threads() == 1


def test_the_embedded_model_is_sparser_than_noise(tmp_path):
    done = invoke("sparsity", "--task-id", "domain_code", "domain_math", "--num-docs", 6, "--layers", 1, 3, "--no-plot", "--output-dir", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    for task in ("domain_code", "domain_math"):
        found = table(folder, "sparsity", task)
        assert set(found["site"]) == {"L1.mlp_act", "L3.mlp_act"}
        measured = values(found, "L3.mlp_act", "no_first")
        assert measured["treves_rolls"] < 0.3 < 2 / math.pi
        assert measured["gini"] > 0.7 > math.sqrt(2) - 1
    lines = done.stdout.splitlines()
    assert re.match(r"Sparsity of activations, \d+ tokens of 12 texts; mean of 2 tasks \[lowest, highest\]", lines[0])
    assert any(line.startswith("Gaussian noise") and "0.637" in line for line in lines)
