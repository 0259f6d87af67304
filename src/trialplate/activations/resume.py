"""Going on after a stop: the states of all collectors and the number of finished batches, in one file that is replaced whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from trialplate.activations.batches import Plan, Tokens
from trialplate.activations.capture import collect
from trialplate.activations.errors import StoreError
from trialplate.activations.sites import Point
from trialplate.models.causal_lm import CausalLM


class Resumable(Protocol):
    """A collector whose sums can be put away and taken up again."""

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d]."""

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""


Table = Mapping[tuple[str, str], Sequence[Resumable]]


def collect_resumable(
    model: CausalLM, plan: Plan, points: Sequence[Point], collectors: Table, file: Path, *, every: int = 50
) -> int:
    """As `capture.collect`, with the sums written to `file` after every so many batches and at the end; begins where the file stands.

    Returns the number of batches that were read now. StoreError for a file of other weights, texts, batches or collectors."""
    identity = f"{model.weights_digest}:{model.spec.dtype}:{plan.digest}:{','.join(p.name for p in points)}"
    begin = _restore(file, identity, collectors) if file.exists() else 0

    def after(done: int) -> None:
        if done % every == 0 or done == len(plan.batches):
            _save(file, identity, done, collectors)

    collect(model, plan, points, collectors, begin=begin, after=after)
    return len(plan.batches) - begin


def _save(file: Path, identity: str, done: int, collectors: Table) -> None:
    tensors = {
        f"{task}|{site}|{i}|{name}": tensor.detach().cpu().contiguous().clone()
        for (task, site), several in collectors.items()
        for i, collector in enumerate(several)
        for name, tensor in collector.state().items()
    }
    new = file.with_name(f".{file.name}.new")
    save_file(tensors, new, {"identity": identity, "done": str(done), "collectors": _names(collectors)})
    with new.open("rb") as written:
        os.fsync(written.fileno())
    new.replace(file)


def _restore(file: Path, identity: str, collectors: Table) -> int:
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{file} cannot be read as the state of a pass: {error}. Remove it to begin anew") from error
    if about.get("identity") != identity or about.get("collectors") != _names(collectors):
        raise StoreError(
            f"{file} belongs to other weights, texts, sites or collectors; remove it to begin anew, or choose another file"
        )
    for (task, site), several in collectors.items():
        for i, collector in enumerate(several):
            prefix = f"{task}|{site}|{i}|"
            collector.load({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    return int(about["done"])


def _names(collectors: Table) -> str:
    return ";".join(
        f"{task}|{site}:{','.join(map(_settings, several))}" for (task, site), several in collectors.items()
    )


def _settings(collector: Resumable) -> str:
    """A collector by its class and public attributes: threshold, seed, sizes, positions."""
    public = {name: value for name, value in vars(collector).items() if not name.startswith("_")}
    return f"{type(collector).__name__}({sorted(public.items())})"
