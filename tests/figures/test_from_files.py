"""Pictures of files: kinds are recognised, runs are told apart or put together, and nothing is overwritten or silently left out."""

import json

import pandas as pd
import pytest
from tests.figures import examples
from tests.figures.examples import measurement, report

from trialplate.figures.from_files import draw, plan, plot
from trialplate.figures.sources import find, runs_of
from trialplate.figures.style import FigureError
from trialplate.report.store import write_report

STAMP = "20250101-120000"
ALL = {
    "sparsity": examples.sparsity(metrics=("gini", "pr_cov", "pr_cov_white")),
    "units": examples.units([0.0, 0.5, 0.01]),
    "lorenz": examples.lorenz(),
    "si_units": examples.si_units([0.1, 0.5], [0.01, 0.02]),
    "si_rates": examples.si_rates([[0.1, 0.3], [0.2, 0.1]]),
    "si": examples.si(),
    "modularity": examples.modularity(),
    "modularity_nulls": examples.nulls(),
    "communities": examples.communities(),
    "edges": examples.edges(),
    "dynamic_k": examples.dynamic_k(),
    "dynamic_k_null": examples.dynamic_k_null(),
    "dynamic_k_speed": examples.speed(),
    "ablation": examples.ablation(),
    "scaling": examples.scaling(),
}


def run_folder(path, model="m", stamp=STAMP, meta=True, **tables):
    path.mkdir(parents=True, exist_ok=True)
    for kind, table in tables.items():
        table.to_csv(path / f"{stamp}_{model}_{kind}.csv", index=False)
    if meta:
        (path / "meta.json").write_text(json.dumps({"model": model}))
    return path


def words_of(planned):
    """What comes after _plot_ in the names of the planned pictures, with the kind of table."""
    return sorted(p.stem.removeprefix(f"{STAMP}_m_") for p in planned.jobs)


def test_a_run_folder_gives_every_picture_of_its_tables(tmp_path):
    planned = plan([run_folder(tmp_path / "run", **ALL)])
    assert words_of(planned) == sorted(
        [
            "sparsity_plot_lines_units", "sparsity_plot_lines_tokens", "sparsity_plot_heat_gini", "sparsity_plot_heat_pr_cov",
            "units_plot_firing_rates", "lorenz_plot_lorenz", "si_units_plot_si_null", "si_rates_plot_rate_matrix", "si_plot_layers",
            "modularity_plot_layers", "edges_plot_coactivation", "dynamic_k_plot_perplexity", "dynamic_k_plot_kl",
            "dynamic_k_speed_plot_pareto", "ablation_plot_ablation", "scaling_plot_size", "scaling_plot_training",
        ]
    )  # fmt: skip
    assert {p.parent for p in planned.jobs} == {tmp_path / "run" / "figures"}
    assert planned.left_out == []


ONE_TASK = examples.sparsity(tasks=("code",))
"""Lines and no map: one picture."""


def test_a_table_is_drawn_beside_itself_and_named_after_itself(tmp_path):
    run = run_folder(tmp_path, sparsity=ONE_TASK)
    written = plot([run / f"{STAMP}_m_sparsity.csv"])
    assert [p.name for p in written] == [f"{STAMP}_m_sparsity_plot_lines_tokens.{e}" for e in ("png", "csv")]
    assert all(p.parent == tmp_path and p.stat().st_size for p in written)
    # and neither is read as a table afterwards
    assert len(plan([run]).jobs) == 1


def test_nothing_is_written_where_one_file_is_there(tmp_path):
    run = run_folder(tmp_path / "run", sparsity=ONE_TASK, si=examples.si())
    last = tmp_path / "out" / f"{STAMP}_m_sparsity_plot_lines_tokens.csv"
    last.parent.mkdir()
    last.write_text("mine")
    with pytest.raises(FileExistsError, match=r"lines_tokens\.csv exists and is not overwritten"):
        plot([run], tmp_path / "out")
    assert [p.name for p in last.parent.iterdir()] == [last.name]
    assert last in plot([run / f"{STAMP}_m_sparsity.csv"], tmp_path / "out", force=True)
    assert last.read_text() != "mine"


def test_one_metric_is_drawn_if_one_is_asked_for(tmp_path):
    run = run_folder(tmp_path / "run", sparsity=ALL["sparsity"])
    assert words_of(plan([run], metrics=["pr_cov"])) == ["sparsity_plot_heat_pr_cov", "sparsity_plot_lines_pr_cov"]
    with pytest.raises(FigureError, match="no row with metric = 'hoyer'"):
        plan([run], metrics=["hoyer"])


def test_one_task_and_one_layer_make_no_map(tmp_path):
    run = run_folder(tmp_path / "run", sparsity=examples.sparsity(tasks=("code",)))
    assert words_of(plan([run])) == ["sparsity_plot_lines_tokens"]


def test_kinds_of_site_have_pictures_of_their_own(tmp_path):
    both = pd.concat(
        [examples.sparsity(), examples.sparsity().replace({"site": r"\.mlp_act"}, ".resid_post", regex=True)]
    )
    found = words_of(plan([run_folder(tmp_path / "run", sparsity=both)]))
    assert "sparsity_plot_mlp_act_heat_gini" in found
    assert "sparsity_plot_resid_post_heat_gini" in found


def test_runs_of_two_models_lie_over_each_other(tmp_path):
    kinds = ("sparsity", "si", "modularity", "dynamic_k", "units")
    runs = [run_folder(tmp_path / m, m, **{k: ALL[k] for k in kinds}) for m in ("a", "b")]
    planned = plan(runs, tmp_path / "out")
    assert sorted(p.stem.removeprefix(f"{STAMP}_") for p in planned.jobs) == sorted(
        [
            "a_sparsity_plot_runs_gini", "a_sparsity_plot_runs_pr_cov", "a_sparsity_plot_runs_pr_cov_white", "a_si_plot_runs",
            "a_modularity_plot_runs", "a_dynamic_k_plot_runs_perplexity", "a_dynamic_k_plot_runs_kl",
            "a_units_plot_firing_rates", "b_units_plot_firing_rates",
        ]
    )  # fmt: skip
    (make,) = [m for p, m in planned.jobs.items() if p.stem.endswith("runs_gini")]
    assert set(make().table["line"]) == {"a", "b"}


def test_tables_of_one_model_with_different_tasks_are_one_run(tmp_path):
    for task in ("code", "math"):
        examples.sparsity(tasks=(task,)).to_csv(tmp_path / f"{STAMP}_pythia-70m_{task}_sparsity.csv", index=False)
    tables = find(sorted(tmp_path.glob("*.csv"))).tables
    (name,) = runs_of(tables)
    assert name == "pythia-70m"
    assert runs_of(tables)[name].stem == f"{STAMP}_pythia-70m_sparsity"
    assert set(runs_of(tables)[name].frame["task_id"]) == {"code", "math"}


def test_two_runs_of_one_model_are_told_apart_by_their_stamp(tmp_path):
    folders = [
        run_folder(tmp_path / s, "m", stamp, sparsity=examples.sparsity())
        for s, stamp in (("x", STAMP), ("y", "20250202-120000"))
    ]
    assert list(runs_of(find(folders).tables)) == [f"m {STAMP}", "m 20250202-120000"]


def test_the_name_of_a_file_names_the_model_where_no_meta_file_does(tmp_path):
    run = run_folder(tmp_path / "run", "pythia-70m", meta=False, si=examples.si())
    assert find([run]).tables[0].subject == "pythia-70m"


def test_two_tables_of_one_name_do_not_overwrite_each_other(tmp_path):
    runs = [run_folder(tmp_path / f / "run", "m", units=ALL["units"]) for f in ("x", "y")]
    with pytest.raises(FigureError, match="two pictures would be written to"):
        plan(runs, tmp_path / "out")
    assert len(plan(runs).jobs) == 2


def test_an_empty_table_of_a_run_is_left_out_and_said(tmp_path):
    # noise has no edges: the table is there, with a header
    run = run_folder(tmp_path / "run", edges=examples.edges().iloc[:0], si=examples.si())
    planned = plan([run])
    assert words_of(planned) == ["si_plot_layers"]
    assert [x.endswith("_edges.csv: no rows") for x in planned.left_out] == [True]


def test_sites_without_a_layer_are_left_out_and_said(tmp_path):
    table = examples.si()
    table["layer"] = table["layer"].where(table["layer"] > 0)
    planned = plan([run_folder(tmp_path / "run", si=table)])
    assert [x.endswith("7 of 14 rows are of sites without a layer") for x in planned.left_out] == [True]
    (make,) = planned.jobs.values()
    assert set(make().table["layer"]) == {1}


def test_edges_without_their_communities_say_what_is_missing(tmp_path):
    with pytest.raises(FigureError, match="needs the table of communities beside it"):
        plan([run_folder(tmp_path / "run", edges=examples.edges())])


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda p: plan([]), "nothing to draw: give a CSV"),
        (lambda p: plan([p / "gone.csv"]), "gone.csv is not there"),
        (lambda p: plan([p]), "holds no table with rows"),
        (lambda p: plan([run_folder(p / "r", communities=examples.communities())]), "nothing to draw in"),
    ],
)
def test_what_makes_no_picture_is_said(tmp_path, make, words_):
    with pytest.raises(FigureError, match=words_):
        make(tmp_path)


def test_a_broken_meta_file_is_named(tmp_path):
    run = run_folder(tmp_path / "run", si=examples.si())
    (run / "meta.json").write_text("{")
    with pytest.raises(FigureError, match=r"meta.json is not JSON"):
        plan([run])


def report_folder(path, value, samples=True):
    path.mkdir()
    write_report(
        path,
        report(
            measurement("accuracy", value),
            measurement("prefix_matching", 0.5, layer=0, head=0, task="t"),
            name=path.name,
        ),
    )
    if samples:
        examples.samples([1.0, -1.0]).to_parquet(path / "samples.parquet")
    return path


def test_a_report_gives_its_distributions_and_heads(tmp_path):
    planned = plan([report_folder(tmp_path / "r", 0.5)])
    assert [p.name for p in planned.jobs] == [
        "report_plot_ioi_m_cpu_float32.png",
        "report_plot_heads_m_cpu_float32.png",
    ]


def test_of_two_reports_the_first_is_the_baseline(tmp_path):
    old, new = report_folder(tmp_path / "old", 0.5), report_folder(tmp_path / "new", 0.7)
    planned = plan([old, new / "report.json"])
    assert list(planned.jobs) == [new / "report_plot_regression.png"]
    (make,) = planned.jobs.values()
    assert make().table.set_index("metric")["difference"]["accuracy"] == pytest.approx(0.2)


def test_three_reports_are_one_too_many(tmp_path):
    with pytest.raises(FigureError, match="got 3 reports"):
        plan([report_folder(tmp_path / n, 0.5) for n in "abc"])


def test_a_damaged_report_is_refused(tmp_path):
    folder = report_folder(tmp_path / "r", 0.5)
    (folder / "report.json").write_text("{}")
    with pytest.raises(FigureError, match="is not a trialplate report"):
        plan([folder])


def test_a_plan_draws_what_it_lists(tmp_path):
    planned = plan([run_folder(tmp_path / "run", ablation=examples.ablation())])
    assert draw(planned)[0] == next(iter(planned.jobs))
