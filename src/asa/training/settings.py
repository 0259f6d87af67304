"""The settings of a training. Where a notion has a name in published configurations, it has that name here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

Autocast = Literal["off", "bf16", "fp16"]

SHARED_FIELDS = (
    "batch_size", "learning_rate", "weight_decay", "betas", "grad_clip", "warmup_steps", "total_steps", "eval_interval", "log_interval",
    "stride_frac_val", "eval_max_batches", "grad_accum_steps", "seed",
)  # fmt: skip
"""Settings that the configuration of a checkpoint records under the same name."""


class SettingsError(ValueError):
    """A setting that cannot be meant; the text names it, the value, and what is wanted."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a model is trained. A step reads `batch_size * grad_accum_steps` rows of `seq_len` tokens and their successors.

    Raises SettingsError for a value out of range."""

    seq_len: int = 128
    batch_size: int = 32
    """Rows that go through the model at once."""
    grad_accum_steps: int = 1
    """Batches of one step. Their gradient is that of one batch of all their tokens."""
    total_steps: int = 300
    learning_rate: float = 2e-3
    """The highest one: reached after `warmup_steps`, left along a cosine."""
    warmup_steps: int = 50
    final_lr_fraction: float = 0.05
    """Share of `learning_rate` that is left at the last step."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    grad_clip: float = 1.0
    """Largest norm of the gradient of all parameters; 0 clips nothing."""
    autocast: Autocast = "off"
    """bf16 on the CPU and on CUDA; fp16 (with a loss scaler) on CUDA only."""
    log_interval: int = 10
    eval_interval: int = 100
    """Steps between validations; 0: none but the last."""
    eval_max_batches: int = 0
    """Batches of a validation; 0: all of it."""
    stride_frac_val: float = 0.5
    """Stride of validation windows, as a share of `seq_len`. Every token is scored once, in the first window that reaches it."""
    checkpoint_interval: int = 100
    """Steps between checkpoints; 0: the last one only."""
    keep_checkpoints: int = 2
    """Checkpoints of single steps that are kept beside `last.pt` and `best.pt`."""
    max_nonfinite_steps: int = 10
    """So many refused steps in a row end the training."""
    seed: int = 0
    """Of data order and of everything that is drawn while training."""
    threads: int = 1
    """CPU threads; another number sums in another order."""

    def __post_init__(self) -> None:
        for name in ("seq_len", "batch_size", "grad_accum_steps", "total_steps", "log_interval", "max_nonfinite_steps", "threads"):  # fmt: skip
            _require(self, name, 1, math.inf)
        for name in ("warmup_steps", "eval_interval", "eval_max_batches", "checkpoint_interval", "keep_checkpoints"):
            _require(self, name, 0, math.inf)
        for name in ("weight_decay", "grad_clip"):
            _require(self, name, 0, math.inf)
        _require(self, "seed", 0, 2**32 - 1)
        _require(self, "learning_rate", 0, math.inf, above=True)
        _require(self, "final_lr_fraction", 0, 1)
        _require(self, "stride_frac_val", 0, 1, above=True)
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise SettingsError(f"betas: wanted two numbers from 0 to below 1, got {self.betas}")
        if self.autocast not in get_args(Autocast):
            raise SettingsError(f"autocast: wanted one of {', '.join(get_args(Autocast))}, got {self.autocast!r}")
        if self.warmup_steps >= self.total_steps:
            raise SettingsError(
                f"warmup_steps: wanted fewer than total_steps ({self.total_steps}), got {self.warmup_steps}"
            )

    @property
    def rows_per_step(self) -> int:
        """Rows that one step reads."""
        return self.batch_size * self.grad_accum_steps

    def shared(self) -> dict[str, Any]:
        """What the configuration of a checkpoint records of these settings."""
        return {name: getattr(self, name) for name in SHARED_FIELDS} | {"micro_batch_size": self.batch_size}


def _require(settings: TrainSettings, name: str, least: float, most: float, *, above: bool = False) -> None:
    value = getattr(settings, name)
    inside = (least < value if above else least <= value) and value <= most and math.isfinite(value)
    if not inside:
        wanted = f"{'more than' if above else 'at least'} {least:g}" + (f" and at most {most:g}" if most < math.inf else "")  # fmt: skip
        raise SettingsError(f"{name}: wanted {wanted}, got {value}")
