"""Training: many coders, one stream of rows. Every batch is read, and scaled, once for all coders that have the same order of rows and batch size;
what becomes of a coder does not depend on who is trained beside it.

What is given back, and written at every checkpoint, reads and writes raw activations. Every number about a coder's worth is from held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trialplate.sae.checkpoints import Identity
from trialplate.sae.coder import Coder
from trialplate.sae.coder_folder import CoderFolder, refuse_another
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError
from trialplate.sae.held_out import chosen_rows, held_out_scores
from trialplate.sae.learner import Learner
from trialplate.sae.order import BLOCK, WINDOW, Order
from trialplate.sae.scaling import Measured, Scales, folded, geometric_median, measure
from trialplate.sae.settings import TrainingSettings, coder_name, plain, resolved, stem
from trialplate.sae.source import Source, Subset, shares_rows, spread_rows
from trialplate.sae.threshold import fit_threshold
from trialplate.sae.training_log import Entry, Progress, entry_of

Plan = tuple[CoderConfig, TrainingSettings]
THRESHOLD_ROWS = 1 << 16
"""Training rows that a batchtopk threshold is fitted on, at most, spread evenly over all; held-out rows then say what L0 it gives elsewhere."""
_MEDIAN_ROWS = 1 << 14


@dataclass(frozen=True)
class Trained:
    """A coder that was trained.

    coder      in raw activation space, ready for use; batchtopk has its threshold
    settings   with every default filled in
    history    the lines of metrics.ndjson
    held_out   `held_out_scores` of it, and `l0_train` (mean L0 of the last logged batch) and `l0_gap` = l0 - l0_train
    scale_in, scale_out   factors that inputs and targets were multiplied by in training"""

    name: str
    coder: Coder
    settings: TrainingSettings
    history: list[Entry]
    held_out: Mapping[str, Any]
    scale_in: float
    scale_out: float
    folder: Path | None = None


def train(
    plans: Sequence[Plan],
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 1000,
    device: str | torch.device = "cpu",
    after: Callable[[Progress], None] | None = None,
    prepare: Callable[[Learner], None] | None = None,
) -> list[Trained]:
    """Train coders on rows and measure them on held-out ones; one result a plan, in order.

    folder: where each coder gets a folder of its own (see `coder_folder`), with a checkpoint after so many steps. resume: go on where such folders
    stand; the result is then, on the CPU, bit for bit that of a run that was never stopped. after: told after every logging step of every coder.
    prepare: given every learner before it steps, to add a term to its gradients (a hook of its optimizer); folders tell runs apart by their plans, so
    whatever it adds is named in the coder's `about`.

    TrainingError for no plans or one plan twice, coders that do not fit the rows or cannot be trained, held-out rows that are also trained on,
    folders that exist (without `resume`) or belong to another run, and a loss that is not finite."""
    _require(plans, rows, held_out)
    if checkpoint_every < 1:
        raise TrainingError(f"wanted a checkpoint after at least 1 step, got checkpoint_every={checkpoint_every}")
    measured = measure(rows)
    runs = [_Run(plan, rows, held_out, measured, torch.device(device)) for plan in plans]
    names = {run.name for run in runs}
    for run in runs:
        run.begin(folder, resume, names)
        if prepare is not None:
            prepare(run.learner)
    groups: dict[tuple[int, int], list[_Run]] = {}
    for run in runs:
        groups.setdefault((run.settings.data_seed, run.settings.batch_size), []).append(run)
    for (seed, size), group in groups.items():
        for run, x, y in _batches(group, rows, Order(rows.n_rows, seed), size):
            run.step(x, y, checkpoint_every, after)
    return [run.finish() for run in runs]


def _batches(group: Sequence[_Run], rows: Source, order: Order, size: int) -> Iterator[tuple[_Run, Tensor, Tensor]]:
    """(who learns, x, y), scaled for it; coders that were stopped earlier than others catch up first."""
    number = min((run.learner.t for run in group if not run.learner.is_done), default=0)
    device = group[0].device
    while any(not run.learner.is_done for run in group):
        x, y = rows.rows(order.batch(number, size))
        raw = x.to(device)
        scaled = {Scales(): (raw, raw if y is x else y.to(device))}
        for run in group:
            if run.learner.t == number and not run.learner.is_done:
                scales = run.learner.scales
                if scales not in scaled:
                    scaled[scales] = _scaled(*scaled[Scales()], scales)
                yield run, *scaled[scales]
        number += 1


def _scaled(x: Tensor, y: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
    ready = x * scales.input
    return ready, ready if y is x else y * scales.target


class _Run:
    """One coder's way through training: it learns, and what must be written down is."""

    def __init__(self, plan: Plan, rows: Source, held_out: Source, measured: Measured, device: torch.device) -> None:
        self.rows, self.held_out, self.device = rows, held_out, device
        config, asked = plan
        self.name, self.settings = coder_name(config, asked), resolved(asked, config)
        scales = measured.scales(config.d_in, config.d_out) if self.settings.scale == "rms" else Scales()
        centre = _centre(self.settings, rows, measured)
        self.learner = Learner(self.name, config, self.settings, scales, centre=centre, device=device)
        self.history: list[Entry] = []
        self.folder: CoderFolder | None = None

    def begin(self, folder: Path | None, resume: bool, beside: Collection[str]) -> None:
        """Make the coder's folder, or go on from what stands in it; `beside` are the names of all coders of this call."""
        if folder is None:
            return
        digests = {"rows": self.rows.digest, "held_out": self.held_out.digest}
        config = self.learner.coder.config
        order = {"seed": self.settings.data_seed, "block": BLOCK, "window": WINDOW}
        about = {"order": order, "about_rows": self.rows.about, "about_held_out": self.held_out.about}
        self.folder = CoderFolder(folder / self.name, Identity(plain(config), plain(self.settings), digests), about)
        if resume and not self.folder.path.exists():
            like = [path for path in sorted(folder.glob(f"{stem(config, self.settings)}-*")) if path.name not in beside]
            refuse_another(self.folder, like)
        self.history = self.folder.begin(self.learner, resume)

    def step(self, x: Tensor, y: Tensor, checkpoint_every: int, after: Callable[[Progress], None] | None) -> None:
        """Learn from a batch; log and put away where it is time to."""
        terms, outcome = self.learner.step(x, y)
        t, settings = self.learner.t, self.settings
        if t % (settings.log_every or 1) == 0 or t == settings.steps:
            entry = entry_of(self.learner, y, terms, outcome)
            self.history.append(entry)
            if self.folder is not None:
                self.folder.log(entry)
        if self.folder is not None and t % checkpoint_every == 0 and t < settings.steps:
            self.folder.checkpoint(self.learner, self.history, self.coder())
        if after is not None and self.history and self.history[-1]["step"] == t:
            after(Progress(self.name, t, settings.steps, self.history[-1]))

    @torch.no_grad()
    def coder(self) -> Coder:
        """The coder as it is now, in raw activation space, with a threshold where it needs one. TrainingError for weights that are not finite."""
        raw = folded(self.learner.coder, self.learner.scales)
        raw.config = raw.config.with_(about={**raw.config.about, "training": self._about()})
        for name, value in raw.named_parameters():
            if not bool(torch.isfinite(value).all()):
                raise TrainingError(f"{self.name}: after step {self.learner.t} the weights {name} are not all finite")
        if raw.config.architecture != "batchtopk":
            return raw
        return fit_threshold(raw, Subset(self.rows, spread_rows(self.rows, THRESHOLD_ROWS)))

    def _about(self) -> dict[str, Any]:
        """What a coder's own file says of how it came to be; everything else is in training.json."""
        scales, settings = self.learner.scales, self.settings
        seeds = {name: getattr(settings, name) for name in ("init_seed", "data_seed", "eval_seed")}
        driven = {name: getattr(settings, name) for name in ("lr", "l1", "l0", "l0_target")}
        scaled = {"scale_in": scales.input, "scale_out": scales.target}
        asked = {"steps": self.learner.t, "batch_size": settings.batch_size, **driven, "rows": self.rows.digest}
        return {**asked, **seeds, **scaled}

    def finish(self) -> Trained:
        """The coder, measured and written."""
        coder, scales = self.coder(), self.learner.scales
        index = chosen_rows(self.held_out, self.settings.eval_rows, self.settings.eval_seed)
        scores = held_out_scores(coder, self.held_out, index)
        l0_train = self.history[-1]["l0"]
        scores |= {"l0_train": l0_train, "l0_gap": scores["l0"] - l0_train}
        if self.folder is not None:
            outcome = {"held_out": scores, "scale_in": scales.input, "scale_out": scales.target}
            self.folder.finish(self.learner, self.history, coder, outcome)
        place = None if self.folder is None else self.folder.path
        return Trained(self.name, coder, self.settings, self.history, scores, scales.input, scales.target, place)


def _centre(settings: TrainingSettings, rows: Source, measured: Measured) -> Tensor | None:
    """Where b_dec begins, in raw units; None for zeros."""
    if settings.centre == "zeros":
        return None
    if settings.centre == "mean":
        return measured.mean
    return geometric_median(rows.rows(spread_rows(rows, _MEDIAN_ROWS))[1])


def _require(plans: Sequence[Plan], rows: Source, held_out: Source) -> None:
    if not plans:
        raise TrainingError("no coder was asked for; give at least one pair of CoderConfig and TrainingSettings")
    for i, plan in enumerate(plans):
        if plan in plans[:i]:
            raise TrainingError(
                f"plans {plans.index(plan)} and {i} are the same, both {stem(*plan)}; one coder cannot count as two"
            )
        _require_fit(plan[0], rows)
    if (held_out.d_in, held_out.d_out, held_out.is_paired) != (rows.d_in, rows.d_out, rows.is_paired):
        raise TrainingError(
            f"held-out rows [{held_out.d_in} to {held_out.d_out}] are not of the kind that is trained on [{rows.d_in} to {rows.d_out}]"
        )
    if shares_rows(rows, held_out):
        raise TrainingError(
            "held-out rows are among those that are trained on; `split` a source into two without any in common"
        )


def _require_fit(config: CoderConfig, rows: Source) -> None:
    if (config.d_in, config.d_out) != (rows.d_in, rows.d_out):
        raise TrainingError(
            f"a coder from {config.d_in} to {config.d_out} channels cannot be trained on rows of {rows.d_in} and {rows.d_out}"
        )
    if rows.is_paired and config.centre_input:
        raise TrainingError(
            "b_dec is in the space that a transcoder writes, so it cannot be subtracted from what it reads: centre_input=False"
        )
    if config.is_transcoder and not rows.is_paired:
        raise TrainingError(
            f"a transcoder from {config.site_in or 'one site'} to {config.site_out or 'another'} is trained on rows of both, and these are of one"
        )
