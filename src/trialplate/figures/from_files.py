"""Pictures of whatever lies in files: a table, a run folder, or several of them.

One run: all pictures of its tables. Several runs: what can be laid over each other is, one line a run; of the other kinds each run has its own.
One report: its distributions and head maps. Two reports: the second against the first.
Results of studies: those of their role. Curves of trainings: one picture, a line a coder.
A picture of `x_sparsity.csv` is `x_sparsity_plot_<picture>.png`, beside the table or, for a run folder, in its `figures/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from trialplate.figures import answers, heads, regression
from trialplate.figures.jobs import ALONE, RUNS, Jobs, Wishes
from trialplate.figures.measures import file_word
from trialplate.figures.sources import ReportSource, Sources, Table, find, runs_of
from trialplate.figures.studies import CURVES
from trialplate.figures.study_jobs import STUDIES, of_trainings
from trialplate.figures.style import FigureError, Picture, counted, files_of, refuse_existing
from trialplate.figures.tables import PLOT
from trialplate.report.model import Report
from trialplate.report.store import REPORT, ReportError, load_run, read_report

_OF_A_RUN = ("manifest.json", REPORT, CURVES)
"""Files that only the folder of a run or of a training has."""


@dataclass
class Plan:
    """Pictures that will be made, by the file of each, and in words what was found and is left out."""

    jobs: dict[Path, Callable[[], Picture]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, home: Path, stem: str, jobs: Jobs) -> None:
        """Raises FigureError where two pictures would have one name."""
        for word, make in jobs:
            path = home / f"{stem}{PLOT}{word}.png"
            if path in self.jobs:
                raise FigureError(
                    f"two pictures would be written to {path}: two tables have one name; draw them into different folders"
                )
            self.jobs[path] = make


def plot(
    paths: Sequence[Path],
    outdir: Path | None = None,
    *,
    metrics: Sequence[str] = (),
    positions: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Draw all pictures that apply; returns the files written, each .png followed by its .csv.

    `metrics` limits tables of sparsity and of scaling; `positions` is `all` or `no_first`, for lines of sparsity.
    Raises FigureError for input that makes no picture, FileExistsError before anything is written where a file is there and
    `force` is not given, OSError.
    """
    return draw(plan(paths, outdir, metrics=metrics, positions=positions), force=force)


def draw(planned: Plan, *, force: bool = False) -> list[Path]:
    """Make and write the pictures of a plan. Errors as `plot`."""
    if not force:
        refuse_existing([file for path in planned.jobs for file in files_of(path)])
    return [file for path, make in planned.jobs.items() for file in make().write(path, force=force)]


def plan(
    paths: Sequence[Path], outdir: Path | None = None, *, metrics: Sequence[str] = (), positions: str | None = None
) -> Plan:
    """What `plot` would make. Reads the tables, draws nothing. Raises FigureError, OSError."""
    _refuse_folders_of_runs(paths)
    found = find(paths)
    wishes = Wishes(tuple(metrics), positions)
    planned = Plan(left_out=[*found.left_out, *_without_layer(found.tables)])
    for kind in dict.fromkeys(t.kind.name for t in found.tables):
        runs = runs_of([t for t in found.tables if t.kind.name == kind])
        first = next(iter(runs.values()))
        if len(runs) > 1 and kind in RUNS:
            planned.add(outdir or first.home, first.stem, RUNS[kind](runs, wishes))
            continue
        for run in runs.values():
            planned.add(outdir or run.home, run.stem, ALONE[kind](run, wishes))
    _add_reports(planned, found.reports, outdir)
    _add_studies(planned, found, outdir)
    if not planned.jobs:
        why = (
            "; ".join(planned.left_out)
            or "the tables have no value that is defined, or belong to one that is not given"
        )
        raise FigureError(f"nothing to draw in {', '.join(map(str, paths))}: {why}")
    return planned


def _refuse_folders_of_runs(paths: Sequence[Path]) -> None:
    """FigureError for a folder with nothing of its own to draw and runs or trainings inside it, that says which to give."""
    for path in paths:
        if not path.is_dir() or any(file.suffix in (".csv", ".json", ".ndjson") for file in path.iterdir()):
            continue
        inside = sorted({file.parent for name in _OF_A_RUN for file in path.glob(f"*/{name}")})
        if inside:
            one = next((run for run in inside if run.name.rpartition("-")[2] in STUDIES), inside[0])
            raise FigureError(
                f"{path} is a folder of {counted(len(inside), 'run')} and holds nothing to draw itself; give one of them, such as {one}, or several"
            )


def _without_layer(tables: Sequence[Table]) -> list[str]:
    """What pictures by layer cannot show. Ablations without a layer are those of all layers, and are shown."""
    gone = [
        (t, int(t.frame["layer"].isna().sum()))
        for t in tables
        if "layer" in t.kind.numbers and t.kind.name != "ablation"
    ]
    return [f"{t.path}: {n} of {len(t.frame)} rows are of sites without a layer" for t, n in gone if n]


def _add_reports(planned: Plan, reports: Sequence[ReportSource], outdir: Path | None) -> None:
    if len(reports) > 2:
        raise FigureError(
            f"a run is compared with one baseline, got {len(reports)} reports; give the baseline first, then the current run"
        )
    if len(reports) == 2:
        both = [_report(r) for r in reports]
        planned.add(outdir or reports[1].home, "report", iter([("regression", partial(regression.regression, *both))]))
    elif reports:
        jobs = list(_of_report(reports[0]))
        planned.add(outdir or reports[0].home, "report", iter(jobs))
        if not jobs:
            planned.left_out.append(
                f"{reports[0].path}: no head was measured and no IOI item kept; give two reports to compare them"
            )


def _add_studies(planned: Plan, found: Sources, outdir: Path | None) -> None:
    for study in found.studies:
        if study.role in STUDIES:
            planned.add(outdir or study.home, study.path.stem, STUDIES[study.role](study))
        else:
            planned.left_out.append(
                f"{study.path}: there is no picture of a study of {study.role}; read its summary.md"
            )
    if found.curves:
        first = found.curves[0]
        planned.add(outdir or first.home, first.path.stem, of_trainings(found.curves))


def _report(source: ReportSource) -> Report:
    if source.path.name == answers.SAMPLES:
        raise FigureError(
            f"{source.path} holds samples and two runs are compared by their reports; give the run folder or report.json"
        )
    try:
        return load_run(source.path) if source.path.is_dir() else read_report(source.path)
    except ReportError as e:
        raise FigureError(str(e)) from e


def _of_report(source: ReportSource) -> Jobs:
    samples = source.path / answers.SAMPLES if source.path.is_dir() else source.path.with_name(answers.SAMPLES)
    if samples.is_file():
        rows = answers.read_samples(samples)
        for subject in answers.subjects_with_differences(rows):
            yield f"ioi_{file_word(subject)}", partial(answers.differences, rows, subject=subject)
    if source.path.name != answers.SAMPLES:
        report = _report(source)
        for subject in heads.subjects_with_heads(report):
            yield f"heads_{file_word(subject)}", partial(heads.head_map, report, subject=subject)
