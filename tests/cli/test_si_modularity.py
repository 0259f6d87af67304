"""`trialplate si-modularity`: counts are those of a plain hook, nulls are there, and what is undefined is empty and said."""

import json

import numpy as np
import pytest
from tests.cli.conftest import TEXTS, Plain, invoke, refused, study, table, tables

from trialplate.cli.modularity_tables import sampled_texts
from trialplate.metrics.specialization import specialization_index

FAST = ("--permutations", 20, "--draws", 20, "--nulls", 2, "--seeds", 2)


def options(model, manifest, tmp_path, *more):
    return ("si-modularity", "--model", model, "--probe-manifest", manifest, "--output-dir", tmp_path, *FAST, *more)


def test_rates_and_indices_are_those_of_a_plain_hook(twin, manifest, tmp_path):
    folder = study(*options(twin, manifest, tmp_path, "--no-plot"))
    plain = Plain(twin)
    fires = {task: [(plain.hidden(text, 1)[1:] > 0).numpy() for text in texts] for task, texts in TEXTS.items()}
    together = {task: np.concatenate(rows) for task, rows in fires.items()}
    found = table(folder, "si_rates")
    for task, rows in together.items():
        own = found[(found["site"] == "L1.mlp_act") & (found["task_id"] == task)]
        assert own["rate"].to_numpy() == pytest.approx(rows.mean(0), abs=1e-12)
    units = table(folder, "si_units")
    units = units[units["site"] == "L1.mlp_act"]
    n_firings = sum(rows.sum(0) for rows in together.values())
    assert units["n_firings"].tolist() == n_firings.tolist()
    scored = units["scored"].to_numpy() == 1
    assert 0 < scored.sum() < len(units)
    rates = np.stack([rows.mean(0) for rows in together.values()])
    assert units["si"][scored].to_numpy() == pytest.approx(specialization_index(rates[:, scored], n_firings[scored]))
    assert units["si"][~scored].isna().all()
    sure = scored & (units["q_value"] <= 0.05).to_numpy()
    assert (units["selective"] == (units["q_value"] <= 0.05)).all()
    assert units["preferred_task"][sure].tolist() == np.array(["one", "two"])[rates.argmax(0)][sure].tolist()
    sites = table(folder, "si").set_index(["site", "metric"])
    one = sites.loc["L1.mlp_act"]
    assert one.loc["si_mean", "value"] == pytest.approx(units["si"].mean())
    assert one.loc["si_excess", "value"] == pytest.approx(one.loc["si_mean", "value"] - one.loc["si_null", "value"])
    assert one.loc["si_coverage", "value"] == scored.mean()
    assert one.loc["frac_selective", "value"] == units["selective"].mean()
    assert one.loc["si_mean", "n_units"] == scored.sum()
    assert set(one["n_docs"]) == {8}


def test_graphs_and_their_nulls_are_written(twin, manifest, tmp_path):
    folder = study(*options(twin, manifest, tmp_path, "--layers", 1, "--no-si", "--no-plot"))
    plain = Plain(twin)
    n_tokens = sum(len(plain.ids(text)) - 1 for texts in TEXTS.values() for text in texts)
    values = table(folder, "modularity").set_index("metric")["value"]
    assert values["n_tokens"] == n_tokens
    edges, groups, nulls = table(folder, "edges"), table(folder, "communities"), table(folder, "modularity_nulls")
    assert values["n_edges"] == len(edges)
    assert (edges["unit_a"] < edges["unit_b"]).all()
    assert edges["weight"].is_monotonic_decreasing
    assert groups["unit"].tolist() == list(range(len(plain.down(1)[1])))
    if values["q_defined"]:
        assert set(edges["unit_a"]) | set(edges["unit_b"]) == set(groups[groups["community"] >= 0]["unit"])
    else:
        assert (groups["community"] == -1).all()
        assert np.isnan(values["q"])
    assert nulls[nulls["kind"] == "shifted"]["draw"].tolist() == [0, 1]
    assert nulls[nulls["kind"] == "dealt"]["draw"].tolist() == [0, 1]
    assert not list(folder.glob("*_si*.csv"))


def test_two_runs_with_one_seed_write_the_same_tables(neox, manifest, tmp_path):
    first, second = (study(*options(neox, manifest, tmp_path, "--seed", 5, "--no-plot")) for _ in range(2))
    assert tables(first) == tables(second)
    assert len(tables(first)) == 7
    third = study(*options(neox, manifest, tmp_path, "--seed", 6, "--no-plot", "--no-modularity"))
    assert len(tables(third)) == 3
    assert not table(third, "si").equals(table(first, "si"))


def test_what_no_unit_allows_is_empty_and_said(neox, manifest, tmp_path):
    done = invoke(*options(neox, manifest, tmp_path, "--threshold", "1e9", "--layers", 1))
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    assert table(folder, "si")["value"].isna().all()
    units = table(folder, "si_units")
    assert (units["scored"] == 0).all()
    assert units[["si", "selective", "preferred_task"]].isna().all(axis=None)
    assert (table(folder, "si_rates")["rate"] == 0).all()
    assert table(folder, "edges").empty
    meta = json.loads((folder / "meta.json").read_text())
    assert "0 edges among 0 tested units" in meta["graphs"]["undefined"]["L1.mlp_act"]["q"]
    assert "L1.mlp_act: q is undefined, 0 edges among 0 tested units" in done.output


def test_a_trained_model_cares_about_the_task_and_its_null_does_not(tmp_path):
    done = invoke("si-modularity", "--task-id", "domain_code", "domain_math", "--num-docs", 12, "--layers", 2, "--top-edges", 50, *FAST, "--output-dir", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    values = table(folder, "si").set_index("metric")
    assert values.loc["si_excess", "ci_lo"] > 0.02
    assert values.loc["frac_selective", "value"] > 0.3
    assert values.loc["frac_selective_null", "value"] < 0.01
    assert len(table(folder, "edges")) == 50
    n_edges = table(folder, "modularity").set_index("metric")["value"]["n_edges"]
    assert json.loads((folder / "meta.json").read_text())["graphs"]["edges_left_out"] == {"L2.mlp_act": n_edges - 50}
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".csv"}
    assert "Specialization to tasks" in done.output
    assert "Modularity: do units that fire together form groups?" in done.output


def test_graphs_are_made_of_a_sample_of_the_texts():
    documents = {"a": [[i] * 10 for i in range(30)], "b": [[i] * 25 for i in range(3)]}
    found = sampled_texts(documents, 200, seed=0)
    assert [len(rows) for rows in found.values()] == [10, 3]  # 100 tokens of each, and b has only 75
    assert found["a"] == sorted(found["a"])
    assert found["a"] != documents["a"][:10]
    assert found == sampled_texts(documents, 200, seed=0)
    assert found != sampled_texts(documents, 200, seed=1)
    assert [len(rows) for rows in sampled_texts(documents, 1, seed=0).values()] == [2, 2]


def test_the_sample_is_said(neox, manifest, tmp_path):
    more = ("--no-si", "--nulls", 0, "--layers", 0, "--modularity-tokens", 120, "--no-plot")
    folder = study(*options(neox, manifest, tmp_path, *more))
    graphs = json.loads((folder / "meta.json").read_text())["graphs"]
    plain = Plain(neox)
    n_texts = sum(graphs["texts"].values())
    assert 6 <= n_texts < 8
    n_tokens = table(folder, "modularity").set_index("metric")["value"]["n_tokens"]
    assert 100 <= n_tokens < sum(len(plain.ids(text)) - 1 for texts in TEXTS.values() for text in texts)


def test_modularity_alone_wants_no_second_task(neox, tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n".join(text for texts in TEXTS.values() for text in texts))
    more = ("--dataset", tmp_path / "corpus.txt", "--no-si", "--no-plot", "--output-dir", tmp_path / "out")
    folder = study("si-modularity", "--model", neox, *FAST, *more)
    assert set(table(folder, "modularity")["site"]) == {"L0.mlp_act", "L1.mlp_act"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--task-id", "one"), "specialization compares tasks: wanted at least 2, got one"),
        (("--num-docs", "1"), "task one has one text, and the nulls exchange texts"),
        (("--num-docs", "1", "--no-si"), "or the nulls with --nulls 0"),
        (("--algorithm", "greedy"), "--algorithm: wanted one of louvain, leiden, got 'greedy'"),
        (("--modularity-tokens", "60"), "a graph wants at least 100 tokens"),
        (("--no-si", "--no-modularity"), "leave nothing to measure"),
        (("--sae", "x"), ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_compared_is_said(more, text, neox, manifest, tmp_path):
    done = invoke(*options(neox, manifest, tmp_path, *more))
    if text:
        refused(done, text)
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_one_prompt_is_one_task(neox, tmp_path):
    refused(invoke("si-modularity", "--model", neox, "--prompt", "the cat", "--output-dir", tmp_path), "got prompt")


def test_leiden_that_is_not_installed_is_said_before_anything_is_read(monkeypatch, neox, manifest, tmp_path):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "leidenalg" else there(name, *a))
    refused(invoke(*options(tmp_path / "absent", manifest, tmp_path, "--algorithm", "leiden")), "trialplate[leiden]")


def test_leiden_is_recorded(neox, manifest, tmp_path):
    pytest.importorskip("leidenalg")
    folder = study(*options(neox, manifest, tmp_path, "--algorithm", "leiden", "--no-si", "--layers", 1, "--no-plot"))
    assert set(table(folder, "modularity")["algorithm"]) == {"leiden"}


def test_nothing_is_left_after_an_error(broken, manifest, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    refused(invoke(*options(broken, manifest, out)), "are not all finite")
    assert list(out.iterdir()) == []
