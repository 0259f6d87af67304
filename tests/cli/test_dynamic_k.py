"""`trialplate dynamic-k`: everything kept is the plain model, shares are exact, and limits are set on texts that are not scored."""

import json
import math
import re

import pytest
import torch
from tests.cli.conftest import TEXTS, Plain, invoke, refused, study, table, tables

from trialplate.cli.dynamic_k_tables import split_texts

ALL = [text for texts in TEXTS.values() for text in texts]


def options(model, manifest, tmp_path, *more):
    return ("dynamic-k", "--model", model, "--probe-manifest", manifest, "--output-dir", tmp_path, *more)


def nats_with_the_largest(plain, k, layers):
    """Nats of every text when only the k units that write most stay, by a plain hook."""

    def mask(module, args):
        hidden = args[0]
        size = hidden.abs() * rows[module].norm(dim=1)
        chosen = size.topk(k, dim=-1).indices
        return (torch.zeros_like(hidden).scatter(-1, chosen, hidden.gather(-1, chosen)),)

    rows = dict(plain.down(layer) for layer in layers)
    handles = [module.register_forward_pre_hook(mask) for module in rows]
    found = torch.cat([plain.nats(text) for text in ALL])
    for handle in handles:
        handle.remove()
    return found


def test_everything_kept_is_the_plain_model_and_a_part_is_a_plain_mask(twin, manifest, tmp_path):
    found = table(study(*options(twin, manifest, tmp_path, "--kept", 0.25, 1, "--no-plot")), "dynamic_k")
    plain = Plain(twin)
    found = found.set_index("kept")
    nats = torch.cat([plain.nats(text) for text in ALL])
    assert found.loc[1.0, "perplexity"] == pytest.approx(nats.mean().exp().item(), rel=1e-6)
    assert found.loc[1.0, "dppl_pct"] == 0
    assert found.loc[1.0, "kl_to_dense"] == 0
    assert found.loc[1.0, "kept_measured"] == 1
    n_bytes = sum(len(text.encode()) for text in ALL)
    assert found.loc[1.0, "bits_per_byte"] == pytest.approx(nats.sum().item() / math.log(2) / n_bytes, rel=1e-6)
    d = len(plain.down(0)[1])
    less = nats_with_the_largest(plain, d // 4, (0, 1))
    assert found.loc[0.25, "perplexity"] == pytest.approx(less.mean().exp().item(), rel=1e-6)
    assert found.loc[0.25, "kept_measured"] == 0.25
    assert found.loc[0.25, "kl_to_dense"] > 0
    assert set(found["n_tokens"]) == {len(nats)}
    assert set(found["n_docs"]) == {8}
    assert (found["ppl_lo"] < found["perplexity"]).all()


def test_each_layer_alone_stands_beside_all_together(neox, manifest, tmp_path):
    found = table(study(*options(neox, manifest, tmp_path, "--kept", 0.25, "--scope", "layers", "--no-plot")), "dynamic_k")  # fmt: skip
    assert found["scope"].tolist() == ["all", "L0", "L1"]
    alone = nats_with_the_largest(Plain(neox), 16, (1,))
    assert found["perplexity"].iloc[2] == pytest.approx(alone.mean().exp().item(), rel=1e-6)


def test_one_layer_is_its_own_scope(neox, manifest, tmp_path):
    found = table(study(*options(neox, manifest, tmp_path, "--layers", 1, "--kept", 0.25, "--no-plot")), "dynamic_k")
    assert found["scope"].tolist() == ["L1"]


def test_limits_are_set_on_texts_that_are_not_scored(neox, manifest, tmp_path):
    rules = ("--rule", "topk", "threshold", "cett", "--kept", 0.5, 1)
    folder = study(*options(neox, manifest, tmp_path, *rules, "--no-plot"))
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["texts"] == {"calibrate": 2, "scored": 6, "begin_with": 0}
    found = table(folder, "dynamic_k")
    assert set(found["n_docs"]) == {6}
    plain = Plain(neox)
    scored = torch.cat([plain.nats(text) for texts in TEXTS.values() for text in texts[1:]])
    whole = found[found["kept"] == 1].set_index("rule")
    assert whole["perplexity"].to_numpy() == pytest.approx(scored.mean().exp().item(), rel=1e-6)
    half = found[found["kept"] == 0.5].set_index("rule")["kept_measured"]
    assert half["topk"] == 0.5
    assert half["threshold"] == pytest.approx(0.5, abs=0.05)
    assert half["cett"] == pytest.approx(0.5, abs=0.08)
    assert len(meta["cett_bounds"]) == 2
    assert meta["cett_bounds"][1] == 0
    assert 0 < meta["cett_bounds"][0] < 1


def test_a_size_instead_of_shares(neox, manifest, tmp_path):
    plain = Plain(neox)
    sizes = []
    for layer in (0, 1):
        rows = torch.cat([plain.hidden("<|endoftext|>" + text, layer)[:-1] for text in ALL])
        sizes.append(rows.abs() * plain.down(layer)[1].norm(dim=1))
    median = torch.cat(sizes).median().item()
    folder = study(*options(neox, manifest, tmp_path, "--threshold", median, "--no-plot"))
    (found,) = table(folder, "dynamic_k").to_dict("records")
    assert found["rule"] == "threshold"
    assert found["kept"] == found["kept_measured"] == pytest.approx(0.5, abs=0.02)
    assert found["n_docs"] == 8
    assert table(folder, "dynamic_k_null")["kept_measured"].iloc[0] == pytest.approx(found["kept"], abs=1 / 64)


def test_of_each_four_texts_the_first_calibrates():
    documents = {"a": [[i, i] for i in range(6)], "b": [[9, 9], [8, 8]]}
    found = split_texts(documents, {"a": list(range(6)), "b": [9, 8]}, calibrate=True)
    assert found.calibration == [[0, 0], [4, 4], [9, 9]]
    assert found.scored == [[1, 1], [2, 2], [3, 3], [5, 5], [8, 8]]
    assert found.n_bytes == [1, 2, 3, 5, 8]
    assert split_texts(documents, {"a": list(range(6)), "b": [9, 8]}, calibrate=False).calibration == []


def test_random_units_are_the_null(manifest, tmp_path):
    done = invoke("dynamic-k", "--task-id", "domain_code", "domain_math", "--num-docs", 3, "--kept", 0.2, 1, "--output-dir", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    found, null = table(folder, "dynamic_k"), table(folder, "dynamic_k_null")
    assert null[["rule", "kept"]].to_numpy().tolist() == [["random", 0.2]]
    assert null["kept_measured"].iloc[0] == found["kept_measured"].iloc[0]
    assert found["dppl_pct"].iloc[0] < 2
    assert null["dppl_pct"].iloc[0] > 1000
    assert "What leaving out hidden units costs, all layers" in done.output
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".csv"}


def test_two_runs_with_one_seed_write_the_same_tables(neox, manifest, tmp_path):
    more = ("--kept", 0.3, "--rule", "cett", "--seed", 4, "--no-plot")
    first, second = (study(*options(neox, manifest, tmp_path, *more)) for _ in range(2))
    assert tables(first) == tables(second)
    assert sorted(re.sub(r".*gpt_neox\d*_", "", name) for name in tables(first)) == [
        "dynamic_k.csv",
        "dynamic_k_null.csv",
    ]


@pytest.mark.parametrize("kernel", ["index", "mask"])
def test_speed_stands_beside_its_ceiling(kernel, neox, manifest, tmp_path):
    more = ("--kept", 0.25, 1, "--speed", "--kernel", kernel, "--repeats", 2, "--new-tokens", 3, "--no-plot")
    folder = study(*options(neox, manifest, tmp_path, *more))
    found = table(folder, "dynamic_k_speed")
    assert found["kernel"].tolist() == ["dense", kernel]
    assert found["kept"].tolist() == [1, 0.25]
    dense, sparse = found.iloc[0], found.iloc[1]
    assert dense["speedup"] == dense["speedup_ceiling"] == 1
    assert math.isnan(dense["efficiency"])
    # 2 x 64 x 32 of down projections in all weights but the rows of the embedding that a token does not read
    plain = Plain(neox).model
    weights = sum(p.numel() for p in plain.parameters()) - 269 * 32
    assert sparse["speedup_ceiling"] == pytest.approx(1 / (1 - 0.75 * 2 * 64 * 32 / weights))
    assert sparse["efficiency"] == pytest.approx((sparse["speedup"] - 1) / (sparse["speedup_ceiling"] - 1))
    quality = table(folder, "dynamic_k").set_index("kept")["perplexity"]
    assert found["perplexity"].tolist() == pytest.approx([quality[1.0], quality[0.25]])
    assert (found["tps_lo"] <= found["tokens_per_second"]).all()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--kept", "2"), "k is the share of units that stay, in (0, 1], got 2.0"),
        (("--kept", "0.1", "half"), "--kept: wanted shares such as 0.1 0.3 1, got 0.1 half"),
        (("--rule", "bottom"), "--rule: wanted some of topk, threshold, cett, got 'bottom'"),
        (("--scope", "some"), "--scope: wanted all or layers, got 'some'"),
        (("--layers", "L1.resid_post"), "units are left out of the MLPs of layers, such as 0 3 or 50%; got L1.resid_post"),
        (("--threshold", "1e9"), "no unit writes as much as that on any token"),
        (("--threshold", "0.1", "--kept", "0.5"), "it goes with neither --kept nor --rule"),
        (("--speed", "--rule", "cett"), "--speed times topk or threshold"),
        (("--speed", "--kernel", "triton"), "no kernel 'triton'; there are mask, index, gather-numba"),
        (("--rule", "threshold", "--num-docs", "1"), "task one has one text: thresholds are set on other texts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_cannot_be_run_is_said(more, text, neox, manifest, tmp_path):
    refused(invoke(*options(neox, manifest, tmp_path, *more)), text)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_after_an_error(broken, manifest, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    refused(invoke(*options(broken, manifest, out)), "finite likelihood")
    assert list(out.iterdir()) == []
