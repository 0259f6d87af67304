"""The state of a coder in training, in one file that is replaced whole: `state.safetensors`. From it a run goes on as if it had never stopped.

Its tensors are in scaled space and named so ("scaled.encoder"): it is no coder, and no reader of coders takes it for one. What it is the state of
stands in its header as JSON: a run with other settings, another coder or other rows is refused, in words that say what differs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trialplate.report.files import write_atomic
from trialplate.sae.errors import TrainingError
from trialplate.sae.learner import Learner
from trialplate.sae.settings import changed
from trialplate.sae.training_log import Entry

SCHEMA = "trialplate-training-state/1"
STATE = "state.safetensors"


@dataclass(frozen=True)
class Identity:
    """What a state belongs to, as plain data: the coder, its resolved settings, and the digests of rows and held-out rows."""

    config: dict[str, Any]
    settings: dict[str, Any]
    rows: dict[str, Any]


def save_state(folder: Path, learner: Learner, identity: Identity, history: list[Entry]) -> None:
    """Write the state; the old one stays until the new one is on the disk. OSError where that fails."""
    tensors, plain = learner.state()
    about = {
        "schema": SCHEMA,
        "config": identity.config,
        "settings": identity.settings,
        "rows": identity.rows,
        "learner": plain,
        "history": history,
    }
    needed = [name for name in tensors if not (learner.is_done and name.startswith("adam."))]  # no step follows
    stored = {name: tensors[name].detach().cpu().contiguous() for name in needed}
    write_atomic(folder / STATE, save(stored, {"about": json.dumps(about, allow_nan=False)}))


def load_state(folder: Path, learner: Learner, identity: Identity) -> list[Entry]:
    """Put the state of a folder into a fresh learner; returns the history so far. TrainingError for a file that cannot be read or belongs to another run."""
    tensors, about = _read(folder / STATE)
    if different := _differences(about, identity):
        raise TrainingError(
            f"{folder} holds the state of another run: {different}. Ask for what it was begun with, or begin anew in another folder"
        )
    learner.load(tensors, about["learner"])
    return list(about["history"])


def differences(folder: Path, identity: Identity) -> str:
    """In what the run of a folder differs from this one, in words; "" where it does not. TrainingError for a state that cannot be read."""
    return _differences(_read(folder / STATE)[1], identity)


def _differences(about: dict[str, Any], identity: Identity) -> str:
    parts = ("config", "settings", "rows")
    return "; ".join(d for part in parts for d in changed(about[part], getattr(identity, part)))


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(file, "pt") as stored:
            about = json.loads((stored.metadata() or {})["about"])
            tensors: dict[str, torch.Tensor] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{file} cannot be read as the state of a run: {error}. Begin anew in another folder"
        ) from error
    if about.get("schema") != SCHEMA:
        raise TrainingError(f"{file}: wanted schema {SCHEMA}, got {about.get('schema')!r}; another release may read it")
    return tensors, about
