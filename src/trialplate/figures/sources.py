"""What lies in the files that pictures are asked of: tables, reports, results of studies and curves of trainings, whose they are, and which of them are
one run.

A model's name comes from `meta.json` beside a table (its key `model`), else from the file's name, `<stamp>_<model>[_<task>]_<kind>.csv`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trialplate.figures.answers import SAMPLES
from trialplate.figures.studies import CURVES, Curves, Study, is_study, read_curves, read_study
from trialplate.figures.style import FigureError
from trialplate.figures.tables import KINDS, PLOT, Kind, kind_of_name, prefix_of, read
from trialplate.report.store import REPORT

if TYPE_CHECKING:
    import pandas as pd

FIGURES = "figures"
"""Folder inside a run folder that its pictures go to."""
META = "meta.json"
_STAMP = re.compile(r"\d{8}-\d{6}(?:-[0-9a-f]+)?")
_BY_TASK = ("sparsity", "units", "lorenz")
"""Kinds that may come as one file a task; others are one measurement over all tasks."""


@dataclass(frozen=True)
class Table:
    """A table: the file, its kind and rows, the model it is about, where its pictures go unless told otherwise, and what their names begin with."""

    path: Path
    kind: Kind
    frame: pd.DataFrame
    subject: str
    home: Path
    stem: str

    def beside(self, name: str) -> pd.DataFrame | None:
        """The rows of the table of another kind from the same measurement; None where there is no file or it has no rows."""
        start = prefix_of(self.path, self.kind)
        path = self.path.with_name(f"{start}_{name}.csv" if start else f"{name}.csv")
        return read(path)[1] if path.is_file() and has_rows(path) else None


@dataclass(frozen=True)
class ReportSource:
    """A report's folder or file, and where its pictures go unless told otherwise."""

    path: Path
    home: Path


@dataclass
class Sources:
    """All that was found, and in words what was found and left out."""

    tables: list[Table] = field(default_factory=list)
    reports: list[ReportSource] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """How many files there is something to draw of."""
        return len(self.tables) + len(self.reports) + len(self.studies) + len(self.curves)


def find(paths: Sequence[Path]) -> Sources:
    """What is in files and folders, in the order given. A folder is not searched deeper.

    Raises FigureError for a path that is not there, a file that is nothing of this, or a folder that holds nothing of it.
    """
    if not paths:
        raise FigureError("nothing to draw: give a CSV, a run folder, or several")
    found = Sources()
    for path in paths:
        if path.is_dir():
            _folder(path, found)
        elif not path.is_file():
            raise FigureError(f"{path} is not there; give a CSV table, a run folder or a report")
        elif path.name in (REPORT, SAMPLES):
            found.reports.append(ReportSource(path, path.parent))
        elif path.name == CURVES:
            found.curves.append(read_curves(path, path.parent))
        elif path.suffix == ".json":
            found.studies.append(read_study(path, path.parent))
        else:
            found.tables.append(_table(path, path.parent))
    return found


def _folder(folder: Path, found: Sources) -> None:
    before = len(found)
    there = sorted(folder.glob("*.csv"))
    for path in there:
        if PLOT in path.stem or kind_of_name(path) is None:
            continue
        if has_rows(path):
            found.tables.append(_table(path, folder / FIGURES))
        else:
            found.left_out.append(f"{path}: no rows")
    if (folder / REPORT).is_file():
        found.reports.append(ReportSource(folder, folder / FIGURES))
    results = [path for path in sorted(folder.glob("*.json")) if path.name != REPORT and is_study(path)]
    found.studies += [read_study(path, folder / FIGURES) for path in results]
    if (folder / CURVES).is_file():
        found.curves.append(read_curves(folder / CURVES, folder / FIGURES))
    if len(found) == before:
        names = ", ".join(p.name for p in there[:5]) or "no other file"
        raise FigureError(
            f"{folder} holds no table with rows, no {REPORT}, no result of a study and no {CURVES}, but {names}; tables end in {', '.join(f'_{k}.csv' for k in KINDS)}. "
            "Give a run folder, not the folder of many runs"
        )


def has_rows(path: Path) -> bool:
    """Whether a CSV has anything below its header. An empty one is a finding (no edges in noise), and nothing to draw."""
    with path.open(encoding="utf-8") as lines:
        return sum(1 for _, line in zip(range(2), lines, strict=False) if line.strip()) > 1


def _table(path: Path, home: Path) -> Table:
    kind, frame = read(path)
    return Table(path, kind, frame, _subject(path, kind, frame), home, path.stem)


def _subject(path: Path, kind: Kind, frame: pd.DataFrame) -> str:
    meta = path.with_name(META)
    if meta.is_file():
        try:
            told = json.loads(meta.read_text(encoding="utf-8"))
        except ValueError as e:
            raise FigureError(
                f"{meta} is not JSON: {e}; mend or remove it, the model's name is taken from there"
            ) from e
        if isinstance(told, dict) and isinstance(told.get("model"), str):
            return str(told["model"])
    name = _STAMP.sub("", prefix_of(path, kind)).strip("_-")
    tasks: list[str] = list(frame["task_id"].unique()) if "task_id" in frame else []
    return name.removesuffix(f"_{tasks[0]}") if len(tasks) == 1 and kind.name in _BY_TASK else name


def runs_of(tables: Sequence[Table]) -> dict[str, Table]:
    """The runs among tables of one kind, by a name that tells them apart. Tables of one model with different tasks are one run."""
    groups: list[list[Table]] = []
    for table in tables:
        fits = (g for g in groups if _one_run(g, table))
        group = next(fits, None)
        if group is None:
            groups.append([table])
        else:
            group.append(table)
    merged = [g[0] if len(g) == 1 else _merged(g) for g in groups]
    return dict(zip(_names(merged), merged, strict=True))


def _merged(group: Sequence[Table]) -> Table:
    """The tables as one; its pictures are named like those of the first file, without that file's task."""
    import pandas as pd

    first = group[0]
    start = prefix_of(first.path, first.kind).removesuffix(f"_{first.frame['task_id'].iloc[0]}")
    frame = pd.concat([t.frame for t in group], ignore_index=True)
    return replace(first, frame=frame, stem=f"{start}_{first.kind.name}")


def _one_run(group: Sequence[Table], table: Table) -> bool:
    if table.kind.name not in _BY_TASK or not table.subject or table.subject != group[0].subject:
        return False
    tasks = {task for t in group for task in t.frame["task_id"]}
    return tasks.isdisjoint(table.frame["task_id"])


def _names(runs: Sequence[Table]) -> Iterator[str]:
    """The model's name; with the stamp, then the folder, then a number where that is not enough."""
    subjects = [r.subject or r.path.stem for r in runs]
    stamped = [f"{s} {_stamp(r.path)}".strip() for s, r in zip(subjects, runs, strict=True)]
    for i, (subject, name) in enumerate(zip(subjects, stamped, strict=True)):
        if subjects.count(subject) == 1:
            yield subject
        elif stamped.count(name) == 1:
            yield name
        else:
            folder = runs[i].path.parent.name
            same = [k for k, r in enumerate(runs) if stamped[k] == name and r.path.parent.name == folder]
            yield f"{subject} {folder}" + (f" ({same.index(i) + 1})" if len(same) > 1 else "")


def _stamp(path: Path) -> str:
    found = _STAMP.search(path.stem) or _STAMP.search(path.parent.name)
    return found[0] if found else ""
