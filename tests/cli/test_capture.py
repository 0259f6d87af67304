"""`trialplate capture`: the rows on disk are those of a plain hook, each with its token, and the sums are theirs."""

import json

import pytest
import torch
from tests.cli.conftest import TEXTS, Plain, invoke, refused, study, table, tables

from trialplate.activations.shards import open_store


def options(twin, manifest, tmp_path, *more):
    return ("capture", "--model", twin, "--probe-manifest", manifest, "--output-dir", tmp_path, *more)


def test_rows_and_sums_are_those_of_a_plain_hook(twin, manifest, tmp_path):
    folder = study(*options(twin, manifest, tmp_path, "--layers", 0, "L1.mlp_act"))
    plain, store = Plain(twin), open_store(folder / "rows", verify=True)
    texts = [text for task in TEXTS.values() for text in task]
    hidden = {layer: [plain.hidden(text, layer) for text in texts] for layer in (0, 1)}
    tokens = store.tokens()
    assert store.n_rows == len(tokens) == sum(map(len, hidden[0]))
    for layer in (0, 1):
        rows = store.rows(f"L{layer}.mlp_act")
        wanted = torch.stack([hidden[layer][d][p] for d, p in zip(tokens["document"], tokens["position"], strict=True)])
        torch.testing.assert_close(rows, wanted, rtol=1e-4, atol=1e-6)
    ids = [plain.ids(text) for text in texts]
    assert tokens["token"].tolist() == [ids[d][p] for d, p in zip(tokens["document"], tokens["position"], strict=True)]
    units = table(folder, "units", "two")
    own = torch.cat(hidden[1][len(TEXTS["one"]) :]).double()
    found = units[units["site"] == "L1.mlp_act"]
    assert found["rate"].to_numpy() == pytest.approx((own > 0).double().mean(0).numpy(), abs=1e-12)
    assert found["mean"].to_numpy() == pytest.approx(own.mean(0).numpy(), abs=1e-7)
    assert found["sd"].to_numpy() == pytest.approx(own.std(0, correction=0).numpy(), rel=1e-4)
    assert found["mean_abs"].to_numpy() == pytest.approx(own.abs().mean(0).numpy(), rel=1e-5)
    assert set(found["n_tokens"]) == {len(own)}


def test_without_saving_there_are_sums_and_no_rows(neox, manifest, tmp_path):
    saved = study(*options(neox, manifest, tmp_path, "--layers", 1))
    sums = study(*options(neox, manifest, tmp_path, "--layers", 1, "--no-save"))
    assert (saved / "rows").is_dir()
    assert not (sums / "rows").exists()
    assert tables(saved) == tables(sums)


def test_a_sample_of_the_rows_is_the_same_for_the_same_seed(neox, manifest, tmp_path):
    runs = [
        open_store(study(*options(neox, manifest, tmp_path, "--layers", 1, "--max-rows", 9, "--seed", s)) / "rows")
        for s in (1, 1, 2)
    ]
    one, same, other = (run.rows("L1.mlp_act") for run in runs)
    assert one.shape == (9, 64)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_relative_depths_and_another_site(neox, manifest, tmp_path):
    folder = study(*options(neox, manifest, tmp_path, "--layers", "0%", "100%", "--site", "resid_post", "--no-save"))
    assert json.loads((folder / "meta.json").read_text())["sites"] == ["L0.resid_post", "L1.resid_post"]
    assert table(folder, "units", "one")["unit"].max() == 31


def test_a_site_without_a_layer_has_an_empty_cell(neox, manifest, tmp_path):
    folder = study(*options(neox, manifest, tmp_path, "--layers", "gpt_neox.final_layer_norm.output", "0", "--no-save"))
    found = table(folder, "units", "one")
    assert found[found["site"] == "gpt_neox.final_layer_norm.output"]["layer"].isna().all()
    (path,) = folder.glob("*one_units.csv")
    assert "one,,gpt_neox.final_layer_norm.output,all,0," in path.read_text()
    assert "one,0,L0.mlp_act,all,0," in path.read_text()


def test_a_model_may_be_named_by_its_blocks(neox, manifest, tmp_path):
    done = invoke(*options(neox, manifest, tmp_path, "--layers", "gpt_neox.layers.1.mlp", "--no-save"))
    assert "was taken to mean L1.mlp_act" in done.output
    assert "read at L1.mlp_act" in done.output


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--site", "resid_mid"), "no L1.resid_mid"),
        (("--store-dtype", "float16"), "wanted dtype float32 or bfloat16"),
    ],
    ids=["site", "dtype"],
)
def test_what_cannot_be_captured_is_said(more, text, neox, manifest, tmp_path):
    refused(invoke(*options(neox, manifest, tmp_path, "--layers", 1, *more)), text)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_after_an_error(broken, manifest, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    refused(invoke(*options(broken, manifest, out, "--layers", 0, 1)), "activations at L1.mlp_act are not all finite")
    assert list(out.iterdir()) == []


def test_the_embedded_model_gives_rows(tmp_path):
    folder = study("capture", "--model", "embedded:neox-tiny", "--task-id", "domain_prose", "--num-docs", 2, "--layers", "50%", "--output-dir", tmp_path)  # fmt: skip
    store = open_store(folder / "rows")
    assert store.sites == ["L2.mlp_act"]
    assert 0 not in store.tokens()["token"].tolist()  # texts are joined by separators, which are not handed on
