"""The folder of one coder that is or was trained.

    cfg.json, sae_weights.safetensors   the coder, once it is finished: raw activations in, raw activations out
    training.json                       what was asked, on which rows, in which order; `finished`, and then the numbers on held-out rows
    metrics.ndjson                      the curves
    unfinished/                         the coder at the last checkpoint, in raw activation space too; gone when it is finished
    state.safetensors                   what a run goes on from; not a coder

A coder that nobody finished has no cfg.json of its own, so that it is not taken for one that is."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trialplate.activations.artifacts import environment
from trialplate.report.files import write_atomic
from trialplate.sae.checkpoints import STATE, Identity, differences, load_state, save_state
from trialplate.sae.coder import Coder
from trialplate.sae.errors import TrainingError
from trialplate.sae.learner import Learner
from trialplate.sae.training_log import Entry, append_metrics, begin_metrics

SCHEMA = "trialplate-training/1"
ABOUT, UNFINISHED = "training.json", "unfinished"


class CoderFolder:
    """Writes the files above. `about` is what training.json says beside identity and outcome."""

    def __init__(self, path: Path, identity: Identity, about: Mapping[str, Any]) -> None:
        self.path, self.identity, self.about = path, identity, dict(about)

    def begin(self, learner: Learner, resume: bool) -> list[Entry]:
        """Make the folder, or put what it holds into the learner; returns the history so far.

        TrainingError for a folder that exists where nothing is to be resumed, and for the state of another run."""
        history: list[Entry] = []
        if self.path.exists() and not resume:
            raise TrainingError(
                f"{self.path} exists, and a coder is never trained over another: go on with it (--resume), or choose another folder (--coders)"
            )
        if (self.path / STATE).exists():
            history = load_state(self.path, learner, self.identity)
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            save_state(self.path, learner, self.identity, history)
        begin_metrics(self.path, history)
        if not learner.is_done:
            self._say({"finished": False})
        return history

    def log(self, entry: Entry) -> None:
        """One line of metrics."""
        append_metrics(self.path, entry)

    def checkpoint(self, learner: Learner, history: list[Entry], coder: Coder) -> None:
        """Write the state, and the coder as it is now."""
        save_state(self.path, learner, self.identity, history)
        fresh = self._written(coder)
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        fresh.rename(self.path / UNFINISHED)

    def finish(self, learner: Learner, history: list[Entry], coder: Coder, outcome: Mapping[str, Any]) -> None:
        """Write the coder and what it is worth. Files take their names one after the other, training.json last."""
        save_state(self.path, learner, self.identity, history)
        fresh = self._written(coder)
        for file in sorted(fresh.iterdir(), reverse=True):
            file.replace(self.path / file.name)
        fresh.rmdir()
        self._say({"finished": True, **outcome})
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)

    def _written(self, coder: Coder) -> Path:
        from trialplate.sae.formats import saelens  # files are wanted only where a folder is

        fresh = self.path / f".coder-{secrets.token_hex(4)}"
        saelens.write(coder, fresh)
        return fresh

    def _say(self, outcome: Mapping[str, Any]) -> None:
        identity = {"config": self.identity.config, "settings": self.identity.settings, "rows": self.identity.rows}
        said = {"schema": SCHEMA, **outcome, **identity, **self.about, "environment": environment()}
        text = json.dumps(said, indent=1, sort_keys=True, allow_nan=False, default=str)
        write_atomic(self.path / ABOUT, text.encode() + b"\n")


def refuse_another(wanted: CoderFolder, like: Iterable[Path]) -> None:
    """TrainingError where a coder is to be resumed that was never begun, while one of its kind was begun otherwise, with what differs."""
    for path in like:
        if (path / STATE).exists():
            raise TrainingError(
                f"nothing of {wanted.path.name} is there to be resumed; {path} was begun with {differences(path, wanted.identity)}. "
                "Ask for what it was begun with, or begin anew without resuming"
            )
