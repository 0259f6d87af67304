"""`trialplate si-modularity`: which units care about the task, and whether units that fire together form groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from trialplate.cli import study_inputs as inputs

if TYPE_CHECKING:
    import pandas as pd

    from trialplate.activations.artifacts import StudyFolder
    from trialplate.activations.collectors.moments import Positions
    from trialplate.activations.sites import Point
    from trialplate.metrics.modularity import Modularity, Settings
    from trialplate.models.causal_lm import CausalLM

POSITIONS: Positions = "no_first"


def si_modularity(
    model: inputs.Model = "embedded:neox-tiny",
    prompt: inputs.Prompt = None,
    dataset: inputs.Dataset = None,
    split: inputs.Split = "validation",
    num_docs: inputs.NumDocs = -1,
    probe_manifest: inputs.Manifest = None,
    task_id: inputs.TaskIds = None,
    layers: inputs.Layers = None,
    max_tokens: inputs.MaxTokens = 2048,
    threshold: inputs.Threshold = 0.0,
    si: Annotated[bool, typer.Option("--si/--no-si", help="Specialization; it compares at least two tasks.")] = True,
    permutations: Annotated[int, typer.Option(min=2, help="Permutations of texts between tasks, for the null.")] = 200,
    draws: Annotated[int, typer.Option(min=2, help="Draws of the bootstrap over texts.")] = 1000,
    modularity: Annotated[
        bool, typer.Option("--modularity/--no-modularity", help="Groups of units that fire together: the slower part.")
    ] = True,
    algorithm: Annotated[
        str, typer.Option(help="Finds the groups: louvain, or leiden (needs the extra leiden).")
    ] = "louvain",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the algorithm on each graph; the best counts.")] = 10,
    nulls: Annotated[int, typer.Option(min=0, help="Draws of each of the three null models; 0: none.")] = 20,
    tokens: Annotated[
        int, typer.Option("--modularity-tokens", min=1, help="Tokens of all tasks together that graphs are made of.")
    ] = 24_000,
    top_edges: Annotated[int, typer.Option(min=0, help="Heaviest edges of a site that are written.")] = 100_000,
    output_dir: inputs.OutDir = Path("artifacts"),
    dtype: inputs.Dtype = "auto",
    device: inputs.Device = "cpu",
    seed: inputs.Seed = 0,
    online: inputs.Online = False,
    plot: inputs.Plot = True,
) -> None:
    """Measure how specialized units are to tasks, beside texts permuted between tasks, and how modular their co-firing is, beside three null models.

    Firing is an activation above --threshold at the hidden units of an MLP, the first token of each text left out."""
    from trialplate.cli.headlines import show
    from trialplate.cli.si_modularity_headline import of_modularity, of_specialization

    with inputs.told(), inputs.one_thread(device):
        wishes = _Wishes(threshold, seed, si, permutations, draws, tokens, top_edges, plot)
        settings = _settings(algorithm, seeds, nulls) if modularity else None
        if settings is None and not si:
            raise inputs.InputError("--no-si and --no-modularity leave nothing to measure")
        lm = inputs.load_model(model, device, dtype, online)
        options = inputs.TextOptions(
            probe_manifest, inputs.split_list(task_id), prompt, dataset, split, num_docs, online
        )
        texts = inputs.read_texts(lm, options, max_tokens)
        _require_comparable(lm, texts, wishes, settings)
        points = inputs.chosen_points(lm, layers, "all")
        done = _study(lm, texts, points, output_dir, wishes, settings)
        if done.sites is not None:
            show(of_specialization(done.sites))
        if done.graphs is not None:
            show(of_modularity(done.graphs, done.undefined))
    typer.echo(f"written: {done.folder}")


@dataclass(frozen=True, slots=True)
class _Wishes:
    """The options that say what is measured."""

    threshold: float
    seed: int
    si: bool
    permutations: int
    draws: int
    tokens: int
    top_edges: int
    plot: bool


class _Done(NamedTuple):
    """The folder; the tables by site of specialization and of modularity (None: not measured); and why numbers of the latter are undefined."""

    folder: Path
    sites: pd.DataFrame | None
    graphs: pd.DataFrame | None
    undefined: Mapping[str, Mapping[str, str]]


def _settings(algorithm: str, seeds: int, nulls: int) -> Settings:
    """Settings of the pipeline. InputError for an algorithm that is not known or not installed, before minutes are spent."""
    from importlib.util import find_spec

    from trialplate.metrics.communities import ALGORITHMS
    from trialplate.metrics.modularity import Settings

    if algorithm not in ALGORITHMS:
        raise inputs.InputError(f"--algorithm: wanted one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    if algorithm == "leiden" and not (find_spec("leidenalg") and find_spec("igraph")):
        raise inputs.InputError("--algorithm leiden needs leidenalg and igraph: pip install 'trialplate[leiden]'")
    return Settings(algorithm=algorithm, n_runs=seeds, n_rewired=nulls, n_shifted=nulls, n_dealt=nulls)


def _require_comparable(lm: CausalLM, texts: inputs.Texts, wishes: _Wishes, settings: Settings | None) -> None:
    """InputError where there is too little to compare: fewer than two tasks, a task of one text or of texts of one token, a graph of few tokens."""
    from trialplate.cli.modularity_tables import sampled_texts

    if wishes.si and len(texts.documents) < 2:
        raise inputs.InputError(
            f"specialization compares tasks: wanted at least 2, got {', '.join(texts.documents)}. "
            "Name more with --task-id, or measure modularity alone with --no-si"
        )
    for task, rows in texts.documents.items():
        if len(rows) < 2 and (wishes.si or (settings is not None and settings.n_dealt)):
            raise inputs.InputError(
                f"task {task} has one text, and the nulls exchange texts: give it more, or leave it out"
                + ("" if wishes.si else ", or the nulls with --nulls 0")
            )
    if short := [task for task, there in inputs.positions_of(lm, texts).items() if POSITIONS not in there]:
        raise inputs.InputError(
            f"the texts of {', '.join(short)} have fewer than 2 tokens after the first, which is left out; give longer ones"
        )
    if settings is None:
        return
    skip, some = inputs.separators(lm), sampled_texts(texts.documents, wishes.tokens, wishes.seed)
    n = sum(token not in skip for rows in some.values() for ids in rows for token in ids[1:])
    if n < 2 * settings.min_firings:
        raise inputs.InputError(
            f"a graph wants at least {2 * settings.min_firings} tokens after the first of each text, got {n}: "
            "give more texts or --modularity-tokens, or leave it out with --no-modularity"
        )


def _study(
    lm: CausalLM,
    texts: inputs.Texts,
    points: Sequence[Point],
    root: Path,
    wishes: _Wishes,
    settings: Settings | None,
) -> _Done:
    """Measure and write."""
    from trialplate.activations.artifacts import study_folder
    from trialplate.cli.study_figures import draw_figures

    about = inputs.about_run(
        "si-modularity",
        lm,
        texts,
        wishes.seed,
        sites=[p.name for p in points],
        positions=POSITIONS,
        options=asdict(wishes),
        modularity=None if settings is None else asdict(settings),
    )
    sites, graphs, undefined = None, None, {}
    with study_folder(root, inputs.short_name(lm), "si-modularity") as folder:
        if wishes.si:
            sites = _specialization(folder, lm, texts, points, wishes)
        if settings is not None:
            graphs, about["graphs"] = _modularity(folder, lm, texts, points, wishes, settings)
            undefined = about["graphs"]["undefined"]
        folder.meta(about)
        if wishes.plot:
            draw_figures(folder)
    return _Done(folder.final, sites, graphs, undefined)


def _specialization(
    folder: StudyFolder, lm: CausalLM, texts: inputs.Texts, points: Sequence[Point], wishes: _Wishes
) -> pd.DataFrame:
    from trialplate.activations.study import Wanted, run_study
    from trialplate.cli.specialization_tables import specialization_tables

    wanted = Wanted((POSITIONS,), threshold=wishes.threshold)
    after = inputs.progress("batches read")
    study = run_study(lm, texts.documents, points, wanted, wishes.seed, skip=inputs.separators(lm), after=after)
    found = specialization_tables(study, POSITIONS, wishes.seed, permutations=wishes.permutations, draws=wishes.draws)
    for suffix, frame in (("si", found.sites), ("si_units", found.units), ("si_rates", found.rates)):
        folder.table(suffix, frame)
    return found.sites


def _modularity(
    folder: StudyFolder,
    lm: CausalLM,
    texts: inputs.Texts,
    points: Sequence[Point],
    wishes: _Wishes,
    settings: Settings,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The tables of modularity into the folder; that by site, and what meta.json says of the graphs.

    Patterns are of a sample of the texts: what is counted grows with the square of the units, and a graph is sharp long before a million tokens."""
    import numpy as np

    from trialplate.activations.study import Wanted, run_study
    from trialplate.cli.modularity_tables import modularity_tables, sampled_texts
    from trialplate.metrics.modularity import modularity

    documents = sampled_texts(texts.documents, wishes.tokens, wishes.seed)
    wanted = Wanted((POSITIONS,), bits=True, threshold=wishes.threshold)
    study = run_study(lm, documents, points, wanted, wishes.seed, skip=inputs.separators(lm))
    after = inputs.progress("sites", len(points))
    found: dict[str, Modularity] = {}
    for point in points:
        seen = study.firing(point.name, POSITIONS)
        rng = np.random.default_rng(wishes.seed)
        found[point.name] = modularity(seen.fires, seen.document, rng, settings, task=seen.task)
        after(len(found))
    tables = modularity_tables(found, {p.name: p.layer for p in points}, wishes.top_edges)
    for suffix, frame in zip(("modularity", "modularity_nulls", "communities", "edges"), tables, strict=True):
        folder.table(suffix, frame)
    return tables.sites, {
        "texts": {task: len(rows) for task, rows in documents.items()},
        "plan": study.plan.digest,
        "undefined": {site: one.why for site, one in found.items() if one.why},
        "edges_left_out": {s: n for s, one in found.items() if (n := one.n_edges - wishes.top_edges) > 0},
    }
