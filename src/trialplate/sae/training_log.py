"""What is written down while a coder is trained: one line of JSON a logging step, flushed, so that a run that dies has said how far it came;
and progress bars for people who watch.

    step, tokens              steps made, and rows seen
    loss, loss_<part>         of this batch, as trained (in scaled units): mse, l1, l0, aux, prefix, multi, balance
    mse, ev, l0               of this batch in raw units: E ||y - y'||^2, explained variance about the batch's mean, active latents
    dead_frac                 latents that have not fired for `dead_after_tokens` tokens
    lr, coefficient, k        as they were in this step; coefficient is that of l1 or l0 after warm-up

Batches are rows that are learned from: these curves show that training goes well, the worth of a coder is measured on held-out rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trialplate.report.files import write_atomic
from trialplate.sae.learner import Learner
from trialplate.sae.losses import Outcome, Terms
from trialplate.sae.schedules import learning_rate

METRICS = "metrics.ndjson"
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a caller is told after every logging step of every coder."""

    coder: str
    step: int
    steps: int
    entry: Mapping[str, Any]


def entry_of(learner: Learner, y: Tensor, terms: Terms, outcome: Outcome) -> Entry:
    """The line of a step that was just made; y are the scaled targets of its batch."""
    error = float((y - outcome.y_hat).double().square().sum(1).mean())
    spread = float((y - y.mean(0)).double().square().sum(1).mean())
    settings = learner.settings
    return {
        "step": learner.t,
        "tokens": learner.t * settings.batch_size,
        "loss": float(outcome.loss),
        **{f"loss_{name}": float(part) for name, part in outcome.parts.items()},
        "mse": error / learner.scales.target**2,
        "ev": 1 - error / spread if spread > 0 else None,
        "l0": float(outcome.latents.active().double().mean()),
        "dead_frac": float(learner.dead.double().mean()),
        "lr": learning_rate(settings, learner.t - 1),
        "coefficient": terms.l1 or terms.l0,
        "k": terms.k,
    }


def begin_metrics(folder: Path, history: Sequence[Entry]) -> None:
    """The file as it stood when these lines were the last: what an earlier run wrote after its last checkpoint happens again."""
    write_atomic(folder / METRICS, b"".join(_line(entry) for entry in history))


def append_metrics(folder: Path, entry: Entry) -> None:
    """One line more, handed to the system before this returns."""
    with (folder / METRICS).open("ab") as file:
        file.write(_line(entry))


@contextmanager
def rich_progress() -> Iterator[Callable[[Progress], None]]:
    """An `after` for `train` that draws one bar a coder, with explained variance, L0 and dead share beside it."""
    from rich.progress import BarColumn, Progress as Bars, TextColumn, TimeRemainingColumn  # noqa: I001 - one import, as late as can be

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeRemainingColumn())
    with Bars(*columns) as bars:
        tasks: dict[str, Any] = {}

        def after(progress: Progress) -> None:
            if progress.coder not in tasks:
                tasks[progress.coder] = bars.add_task(progress.coder, total=progress.steps, now="")
            shown = " ".join(f"{name} {_short(progress.entry[name])}" for name in ("ev", "l0", "dead_frac"))
            bars.update(tasks[progress.coder], completed=progress.step, now=shown)

        yield after


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, allow_nan=False).encode() + b"\n"
