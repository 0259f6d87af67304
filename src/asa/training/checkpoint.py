"""What a checkpoint of a training holds: the published container, and beside it everything that the next step depends on.

Published: `cfg` (fields of the configuration), `model` (weights in `asm` naming), `opt`, `step`, `best_val`. Ours: `settings`, `scheduler`,
`scaler`, `generators`, `data`, `counters`. Tensors and plain data only, so `torch.load(weights_only=True)` reads it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from asa.training.batches import Source
from asa.training.precision import Precision
from asa.training.settings import SettingsError, TrainSettings
from asa.utils.seed import generator_states, set_generator_states


@dataclass
class Counters:
    """Where a training stands. `nats` and `weight` are sums since the last record."""

    step: int = 0
    tokens: int = 0
    refused: int = 0
    refused_in_a_row: int = 0
    nats: float = 0.0
    weight: float = 0.0
    best_val: float = float("inf")
    best_step: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that changes while a model trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    source: Source
    counters: Counters


def pack(parts: Parts, cfg: Mapping[str, Any], settings: TrainSettings) -> dict[str, Any]:
    """The container of a training as it stands."""
    return _plain(
        {
            "cfg": dict(cfg),
            "model": parts.model.state_dict(),
            "opt": parts.optimizer.state_dict(),
            "step": parts.counters.step,
            "best_val": parts.counters.best_val,
            "settings": dataclasses.asdict(settings),
            "scheduler": {"step": parts.counters.step},
            "scaler": parts.precision.state_dict(),
            "generators": generator_states(),
            "data": parts.source.state_dict(),
            "counters": dataclasses.asdict(parts.counters),
        }
    )


def _plain(value: Any) -> Any:
    """The same content with one object a string: a pickle writes a string once for each object that holds it, and those that were loaded are
    others than those that were made, so that files of a resumed training would differ from those of an unbroken one."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return sys.intern(value) if isinstance(value, str) else value


def unpack(container: Mapping[str, Any], parts: Parts, cfg: Mapping[str, Any], settings: TrainSettings) -> None:
    """Put every part where the container found it. SettingsError if it was written under other settings, or of another model."""
    _require_same(container["settings"], dataclasses.asdict(settings))
    _require_same(container["cfg"], cfg)
    parts.model.load_state_dict(container["model"])
    parts.optimizer.load_state_dict(container["opt"])
    parts.precision.load_state_dict(container["scaler"])
    parts.source.load_state_dict(container["data"])
    for name, value in container["counters"].items():
        setattr(parts.counters, name, value)
    set_generator_states(container["generators"])


def _require_same(written: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = [*now, *(name for name in written if name not in now)]
    other = [
        f"{name} was {written.get(name)!r}, is {now.get(name)!r}"
        for name in names
        if written.get(name) != now.get(name)
    ]
    if other:
        raise SettingsError(
            f"a training goes on with the settings that it began with: {'; '.join(other)}. Start a new run for others."
        )
