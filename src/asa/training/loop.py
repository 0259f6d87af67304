"""The training loop: next-token prediction, the same bits for the same seed, data, thread count and CPU, broken off and resumed or not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asa.training.batches import Source, TokenWindows, token_checksum
from asa.training.checkpoint import Counters, Parts, pack, unpack
from asa.training.folder import RunFolder
from asa.training.optimizer import make_optimizer
from asa.training.precision import Precision
from asa.training.schedule import learning_rate
from asa.training.settings import SettingsError, TrainSettings
from asa.training.step import accumulate, update
from asa.training.store import CheckpointStore
from asa.training.validation import Validation, validate
from asa.utils.device import environment, repeatable
from asa.utils.seed import generators_kept, seed_generators

Progress = Callable[[int, int, Mapping[str, Any] | None], None]
"""Called after every step with (step, total steps, its record if it has one; keys are `folder.COLUMNS`)."""


class NonFiniteGradients(RuntimeError):
    """Too many steps in a row had a gradient that is not finite; the training ended without taking them."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a training ended. Losses in nats per token; None where nothing was measured."""

    outdir: Path
    step: int
    finished: bool
    """False where it was asked to stop; `resume=True` goes on."""
    tokens: int
    refused_steps: int
    last_loss: float | None
    last_val: float | None
    best_val: float | None
    best_step: int | None
    left_alone: tuple[str, ...]
    """Checkpoints that were due to be removed and had been changed by somebody else; they are still there."""


def train(
    model: nn.Module,
    train_tokens: Tensor | Source,
    val_tokens: Tensor | None,
    settings: TrainSettings,
    outdir: Path,
    *,
    progress: Progress | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    val_bytes: int | None = None,
    checksums: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train a model [b, T] ids -> [b, T, vocab] logits in place (it ends in eval mode), and leave the run in the new folder `outdir`.

    train_tokens  ids [N] int64, read in windows (`TokenWindows`), or a `Source` of batches
    val_tokens    ids [N] int64 that are not trained on; None: no validation, no best.pt
    device        where it runs; the model's own by default, else it is moved there
    resume        go on with the run in `outdir` from its last checkpoint; model, data and settings must be those it was begun with
    val_bytes     UTF-8 bytes of the whole validation text, for bits per byte
    checksums     what else is known about the data, for dataset_checksums.json; files: texts for the new folder
    should_stop   asked after every step: true saves a checkpoint and ends

    The weights depend on `settings.seed`, threads, data and CPU alone, whatever was drawn before; global generators are left as they were.
    Raises RunFolderError, SettingsError, StoreError, NonFiniteGradients, ValueError for data that do not fit, OSError."""
    device = device or next(model.parameters()).device
    _require_fits(model, settings)
    source = _source(train_tokens, settings)
    precision = Precision(settings.autocast, device)
    model.to(device).train()
    parts = Parts(model, make_optimizer(model, settings), precision, source, Counters())
    sums = {
        **(checksums or {}),
        "train": source.checksums(),
        "validation": None if val_tokens is None else token_checksum(val_tokens),
    }
    with repeatable(device, settings.threads), generators_kept():
        folder = RunFolder.open(outdir) if resume else RunFolder.create(outdir)
        run = _Run(parts, settings, _cfg(model, settings), folder, val_tokens, val_bytes)
        if resume:
            folder.require_same_data(sums)
            run.restore()
        else:
            folder.describe(settings, run.cfg, environment(device), sums, files or {})
            seed_generators(settings.seed)
        return run.go(progress, should_stop)


@dataclass
class _Run:
    """One training under way."""

    parts: Parts
    settings: TrainSettings
    cfg: dict[str, Any]
    folder: RunFolder
    val_tokens: Tensor | None
    val_bytes: int | None
    store: CheckpointStore = field(init=False)
    seconds: float = 0.0
    """Spent in steps since the last record; time is the one thing that a resumption does not repeat."""
    tokens: int = 0
    """Read in these seconds."""

    def __post_init__(self) -> None:
        self.store = CheckpointStore(self.folder.checkpoints, self.settings.keep_checkpoints)

    def restore(self) -> None:
        """Go to the last checkpoint."""
        unpack(self.store.load(), self.parts, self.cfg, self.settings)
        self.folder.note_resumption(self.parts.counters.step, environment(self.parts.precision.device))
        self.folder.forget_after(self.parts.counters.step)

    def go(self, progress: Progress | None, should_stop: Callable[[], bool]) -> TrainResult:
        """Steps until the last one, or until asked to stop."""
        counters, total = self.parts.counters, self.settings.total_steps
        stopped = False
        while counters.step < total and not stopped:
            norm = self._step()
            record = self._record(norm) if self._due(self.settings.log_interval) or self._validates else None
            stopped = should_stop()
            if stopped or self._due(self.settings.checkpoint_interval):
                self.store.save(self._container(), step=counters.step)
            if progress is not None:
                progress(counters.step, total, record)
        self.folder.write_table()
        self.parts.model.eval()
        return self._result()

    def _step(self) -> float:
        """One step, taken or refused; returns the norm of its gradient."""
        parts, counters, began = self.parts, self.parts.counters, time.perf_counter()
        rate = self._rate(counters.step)
        for group in parts.optimizer.param_groups:
            group["lr"] = rate
        batches = [parts.source.next_batch() for _ in range(self.settings.grad_accum_steps)]
        loss = accumulate(parts.model, batches, parts.precision)
        norm, taken = update(parts.model, parts.optimizer, parts.precision, self.settings.grad_clip)
        counters.step += 1
        counters.tokens += loss.tokens
        self.tokens += loss.tokens
        self.seconds += time.perf_counter() - began
        if taken:
            counters.refused_in_a_row = 0
            counters.nats += loss.nats
            counters.weight += loss.weight
        else:
            self._refuse(norm)
        return norm

    def _refuse(self, norm: float) -> None:
        counters, most = self.parts.counters, self.settings.max_nonfinite_steps
        counters.refused += 1
        counters.refused_in_a_row += 1
        if counters.refused_in_a_row >= most:
            raise NonFiniteGradients(
                f"the gradient was not finite in {most} steps in a row, the last of them step {counters.step} (norm {norm}); "
                f"none of them was taken. Lower learning_rate, lengthen warmup_steps or set autocast to off; "
                f"checkpoints of the steps before are in {self.folder.checkpoints}."
            )

    def _record(self, norm: float) -> dict[str, Any]:
        """The record of this step: written, its best checkpoint saved, the sums since the last one begun anew."""
        counters = self.parts.counters
        rows = counters.step * self.settings.rows_per_step
        record = {
            "step": counters.step,
            "epoch": round(rows / self.parts.source.rows_per_epoch, 4),
            "loss": counters.nats / counters.weight if counters.weight else None,
            "learning_rate": self._rate(counters.step - 1),
            "grad_norm": norm,
            "tokens": counters.tokens,
            "tokens_per_s": round(self.tokens / self.seconds, 1),
            "refused_steps": counters.refused,
        }
        counters.nats = counters.weight = self.seconds = 0.0
        self.tokens = 0
        if self._validates:
            record |= self._validation()
        self.folder.record(record)
        return record

    def _validation(self) -> dict[str, Any]:
        assert self.val_tokens is not None
        settings, counters = self.settings, self.parts.counters
        found = validate(
            self.parts.model,
            self.val_tokens,
            seq_len=settings.seq_len,
            stride_frac=settings.stride_frac_val,
            batch_size=settings.batch_size,
            max_batches=settings.eval_max_batches,
            precision=self.parts.precision,
        )
        if found.loss < counters.best_val:
            counters.best_val, counters.best_step = found.loss, counters.step
            self.store.save(self._container(), best=True)
        return {
            "val_loss": found.loss,
            "val_perplexity": found.perplexity,
            "val_bits_per_byte": self._bits_per_byte(found),
            "val_tokens": found.tokens,
        }

    def _bits_per_byte(self, found: Validation) -> float | None:
        """Of the whole text only: nobody counted the bytes of a part of it."""
        whole = self.val_tokens is not None and found.tokens == len(self.val_tokens) - 1
        return found.bits_per_byte(self.val_bytes) if self.val_bytes and whole else None

    def _container(self) -> dict[str, Any]:
        return pack(self.parts, self.cfg, self.settings)

    def _due(self, interval: int) -> bool:
        step = self.parts.counters.step
        return step == self.settings.total_steps or (interval > 0 and step % interval == 0)

    @property
    def _validates(self) -> bool:
        return self.val_tokens is not None and self._due(self.settings.eval_interval)

    def _rate(self, step: int) -> float:
        s = self.settings
        return learning_rate(step, peak=s.learning_rate, warmup=s.warmup_steps, total=s.total_steps, final_fraction=s.final_lr_fraction)  # fmt: skip

    def _result(self) -> TrainResult:
        counters, records = self.parts.counters, self.folder.records()
        return TrainResult(
            outdir=self.folder.path,
            step=counters.step,
            finished=counters.step == self.settings.total_steps,
            tokens=counters.tokens,
            refused_steps=counters.refused,
            last_loss=_last(records, "loss"),
            last_val=_last(records, "val_loss"),
            best_val=counters.best_val if math.isfinite(counters.best_val) else None,
            best_step=counters.best_step or None,
            left_alone=tuple(self.store.left_alone),
        )


def _last(records: list[dict[str, Any]], name: str) -> float | None:
    return next((record[name] for record in reversed(records) if record.get(name) is not None), None)


def _source(train_tokens: Tensor | Source, settings: TrainSettings) -> Source:
    if isinstance(train_tokens, Tensor):
        return TokenWindows(train_tokens, seq_len=settings.seq_len, batch_size=settings.batch_size, seed=settings.seed)
    return train_tokens


def _require_fits(model: nn.Module, settings: TrainSettings) -> None:
    most = getattr(model, "max_seq_len", None)
    if most is not None and settings.seq_len > most:
        raise SettingsError(f"seq_len {settings.seq_len} is more than the model's max_seq_len {most}; lower it, or build the model with more")  # fmt: skip


def _cfg(model: nn.Module, settings: TrainSettings) -> dict[str, Any]:
    """What the checkpoint says of the model, with the settings of this training where both have a field."""
    cfg = getattr(model, "cfg", None)
    return {**(cfg.to_dict() if cfg is not None else {}), **settings.shared()}
