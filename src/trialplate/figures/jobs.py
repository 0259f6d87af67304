"""Which pictures a table gives: for one run (`ALONE`), and for several runs over each other (`RUNS`, of the kinds that can be)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from trialplate.figures import ablation, coactivation, dynamic_k, firing, scaling, selectivity, sparsity, throughput
from trialplate.figures.measures import file_word, pages
from trialplate.figures.sources import Table
from trialplate.figures.style import FigureError, Picture
from trialplate.figures.tables import chosen, site_kinds

Jobs = Iterator[tuple[str, Callable[[], Picture]]]
"""Name of a picture (the part of its file's name after `_plot_`) and how it is made."""


_REFERENCE = "_white"
"""Ending of values that white noise would have: drawn as lines beside what they are compared with, as a map only if asked for."""


class Wishes(NamedTuple):
    """What is asked of tables of sparsity and scaling: some metrics (none: all), and the positions (None: all, or what was measured)."""

    metrics: Sequence[str] = ()
    positions: str | None = None


def _by_site(table: Table) -> Iterator[tuple[str, str]]:
    """Each kind of site with the beginning of its pictures' names: nothing where there is one kind."""
    kinds = site_kinds(table.frame)
    if not kinds:
        raise FigureError(
            f"{table.path} names no layer in any row, and its pictures are drawn by layer; measure at sites such as L0.mlp_act"
        )
    for site in kinds:
        yield site, "" if len(kinds) == 1 else f"{file_word(site)}_"


def _metrics(table: Table, wanted: Sequence[str]) -> list[str]:
    """The metrics asked for, or all, that have a value. FigureError for one that the table has not."""
    for metric in wanted:
        chosen(table.frame, "metric", metric, str(table.path))
    defined = table.frame[table.frame["value"].notna()]
    return [m for m in dict.fromkeys(defined["metric"]) if not wanted or m in wanted]


def _groups(metrics: list[str], apart: bool) -> dict[str, list[str]]:
    """Metrics by picture: each on its own, or by pages."""
    return {m: [m] for m in metrics} if apart or not metrics else pages(metrics)


def _sparsity(table: Table, wishes: Wishes) -> Jobs:
    metrics = _metrics(table, wishes.metrics)
    for site, start in _by_site(table):
        who = {"subject": table.subject, "site": site}
        for name, group in _groups(metrics, apart=bool(wishes.metrics)).items():
            yield (
                f"{start}lines_{file_word(name)}",
                partial(sparsity.lines, table.frame, group, positions=wishes.positions, **who),
            )
        if table.frame["task_id"].nunique() > 1 and table.frame["layer"].nunique() > 1:
            for metric in metrics if wishes.metrics else (m for m in metrics if not m.endswith(_REFERENCE)):
                yield f"{start}heat_{file_word(metric)}", partial(sparsity.heat_map, table.frame, metric, **who)


def _sparsity_runs(runs: Mapping[str, Table], wishes: Wishes) -> Jobs:
    frames = {name: run.frame for name, run in runs.items()}
    tables = list(runs.values())
    shared = [m for m in _metrics(tables[0], wishes.metrics) if all(m in _metrics(t, wishes.metrics) for t in tables)]
    if not shared:
        raise FigureError(f"the runs {', '.join(runs)} share no metric with a value; draw one at a time")
    one_task = len({task for frame in frames.values() for task in frame["task_id"]}) == 1
    for site, start in _by_site(tables[0]):
        for name, group in _groups(shared, apart=bool(wishes.metrics) or not one_task).items():
            yield (
                f"{start}runs_{file_word(name)}",
                partial(sparsity.runs, frames, group, positions=wishes.positions, site=site),
            )


def _units(table: Table, wishes: Wishes) -> Jobs:
    for site, start in _by_site(table):
        yield f"{start}firing_rates", partial(firing.firing_rates, table.frame, subject=table.subject, site=site)


def _lorenz(table: Table, wishes: Wishes) -> Jobs:
    for site, start in _by_site(table):
        yield f"{start}lorenz", partial(firing.lorenz, table.frame, subject=table.subject, site=site)


def _si_units(table: Table, wishes: Wishes) -> Jobs:
    for site, start in _by_site(table):
        if (table.frame["scored"] == 1).any():
            yield f"{start}si_null", partial(selectivity.si_null, table.frame, subject=table.subject, site=site)


def _si_rates(table: Table, wishes: Wishes) -> Jobs:
    if table.frame["task_id"].nunique() < 2:
        return  # a preference needs two tasks
    units = table.beside("si_units")
    for site, start in _by_site(table):
        yield (
            f"{start}rate_matrix",
            partial(selectivity.rate_matrix, table.frame, units, subject=table.subject, site=site),
        )


def _si(table: Table, wishes: Wishes) -> Jobs:
    for site, start in _by_site(table):
        yield f"{start}layers", partial(selectivity.si_layers, table.frame, subject=table.subject, site=site)


def _si_runs(runs: Mapping[str, Table], wishes: Wishes) -> Jobs:
    for site, start in _by_site(next(iter(runs.values()))):
        yield f"{start}runs", partial(selectivity.si_runs, {n: t.frame for n, t in runs.items()}, site=site)


def _modularity(table: Table, wishes: Wishes) -> Jobs:
    nulls = table.beside("modularity_nulls")
    for site, start in _by_site(table):
        yield (
            f"{start}layers",
            partial(coactivation.modularity_layers, table.frame, nulls, subject=table.subject, site=site),
        )


def _modularity_runs(runs: Mapping[str, Table], wishes: Wishes) -> Jobs:
    for site, start in _by_site(next(iter(runs.values()))):
        yield f"{start}runs", partial(coactivation.modularity_runs, {n: t.frame for n, t in runs.items()}, site=site)


def _edges(table: Table, wishes: Wishes) -> Jobs:
    communities = table.beside("communities")
    if communities is None:
        raise FigureError(
            f"{table.path} needs the table of communities beside it (the same name with _communities.csv), and it is not there"
        )
    others = table.beside("modularity"), table.beside("modularity_nulls")
    for site, start in _by_site(table):
        yield (
            f"{start}coactivation",
            partial(coactivation.coactivation, table.frame, communities, *others, subject=table.subject, site=site),
        )


def _with_company(table: Table, wishes: Wishes) -> Jobs:
    """Drawn with the table that it belongs to: nulls with what they are nulls of, communities with edges."""
    return iter(())


def _dynamic_k(table: Table, wishes: Wishes) -> Jobs:
    null = table.beside("dynamic_k_null")
    yield "perplexity", partial(dynamic_k.quality, table.frame, "perplexity", null, subject=table.subject)
    if table.frame["kl_to_dense"].notna().any():
        yield "kl", partial(dynamic_k.quality, table.frame, "kl_to_dense", null, subject=table.subject)


def _dynamic_k_runs(runs: Mapping[str, Table], wishes: Wishes) -> Jobs:
    frames = {name: run.frame for name, run in runs.items()}
    yield "runs_perplexity", partial(dynamic_k.quality_runs, frames, "perplexity")
    if all(f["kl_to_dense"].notna().any() for f in frames.values()):
        yield "runs_kl", partial(dynamic_k.quality_runs, frames, "kl_to_dense")


def _dynamic_k_speed(table: Table, wishes: Wishes) -> Jobs:
    yield "pareto", partial(throughput.pareto, table.frame, subject=table.subject)


def _ablation(table: Table, wishes: Wishes) -> Jobs:
    yield "ablation", partial(ablation.ablation, table.frame, subject=table.subject)


def _scaling(table: Table, wishes: Wishes) -> Jobs:
    there = set(_metrics(table, wishes.metrics))
    headlines = [m for m in scaling.HEADLINES if m in there]
    metrics = list(wishes.metrics) or headlines or sorted(there)[:4]
    rows = table.frame[table.frame["metric"].isin(metrics) & table.frame["value"].notna()]
    if rows["n_parameters"].nunique() > 1:
        yield "size", partial(scaling.against_size, table.frame, metrics)
    if rows["step"].nunique() > 1:
        yield "training", partial(scaling.against_step, table.frame, metrics)


ALONE: dict[str, Callable[[Table, Wishes], Jobs]] = {
    "sparsity": _sparsity,
    "units": _units,
    "lorenz": _lorenz,
    "si_units": _si_units,
    "si_rates": _si_rates,
    "si": _si,
    "modularity": _modularity,
    "modularity_nulls": _with_company,
    "communities": _with_company,
    "edges": _edges,
    "dynamic_k": _dynamic_k,
    "dynamic_k_null": _with_company,
    "dynamic_k_speed": _dynamic_k_speed,
    "ablation": _ablation,
    "scaling": _scaling,
}
RUNS: dict[str, Callable[[Mapping[str, Table], Wishes], Jobs]] = {
    "sparsity": _sparsity_runs,
    "si": _si_runs,
    "modularity": _modularity_runs,
    "dynamic_k": _dynamic_k_runs,
}
