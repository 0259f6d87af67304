"""The folder of a run: made once, never overwritten, and the only place that a training writes to.

config.json             settings of the training and configuration of the model
environment.json        what ran it; after a resumption, what ran the rest
dataset_checksums.json  what it was trained and validated on
metrics.ndjson, .csv    one record every few steps
checkpoints/            last.pt, best.pt, step-*.pt, their .sha256, manifest.json
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asa.training.settings import TrainSettings
from asa.utils.files import write_atomic
from asa.utils.logging import append_record, keep_records, read_records, write_csv

SCHEMA = 1
COLUMNS = (
    "step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s", "refused_steps",
    "val_loss", "val_perplexity", "val_bits_per_byte", "val_tokens",
)  # fmt: skip
"""Keys of a record. loss: nats per token (weighted), mean since the record before; tokens: read since the beginning."""


class RunFolderError(RuntimeError):
    """A run folder that exists where a new one is wanted, is absent where a run should go on, or belongs to other data."""


class RunFolder:
    """The files of one run, the checkpoints apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.ndjson"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new folder. RunFolderError if anything of that name exists."""
        try:
            path.mkdir(parents=True)
        except FileExistsError as error:
            raise RunFolderError(
                f"{path} exists, and a run is never written over another. Name a new folder, or resume the run that is there."
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that was begun. RunFolderError if there is none."""
        if not (path / "config.json").is_file():
            raise RunFolderError(
                f"{path} is not the folder of a run (it has no config.json); there is nothing to resume"
            )
        return cls(path)

    def describe(
        self,
        settings: TrainSettings,
        cfg: Mapping[str, Any],
        environment: Mapping[str, Any],
        checksums: Mapping[str, Any],
        files: Mapping[str, str],
    ) -> None:
        """Write what is known before the first step; `files` (name -> text) come from the caller."""
        for name, text in files.items():
            write_atomic(self.path / name, text.encode())
        self._write("environment.json", {"schema": SCHEMA, **environment, "resumed": []})
        self._write("dataset_checksums.json", {"schema": SCHEMA, **checksums})
        self._write("config.json", {"schema": SCHEMA, "settings": dataclasses.asdict(settings), "cfg": dict(cfg)})

    def require_same_data(self, checksums: Mapping[str, Any]) -> None:
        """RunFolderError if the run was begun on other data."""
        path = self.path / "dataset_checksums.json"
        written = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(json.dumps({"schema": SCHEMA, **checksums}))
        if other := [name for name in sorted({*written, *now}) if written.get(name) != now.get(name)]:
            raise RunFolderError(
                f"the data are not those that the run was begun on: {', '.join(other)} differ from {path}. "
                f"Bring them back, or start a new run."
            )

    def note_resumption(self, step: int, environment: Mapping[str, Any]) -> None:
        """Say in environment.json what goes on with the run from a step."""
        written = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
        written["resumed"].append({"step": step, **environment})
        self._write("environment.json", written)

    def forget_after(self, step: int) -> None:
        """Drop the records of steps that will be taken again."""
        keep_records(self._metrics, lambda record: record["step"] <= step)

    def record(self, record: Mapping[str, Any]) -> None:
        """Add a record to the metrics."""
        append_record(self._metrics, record)

    def write_table(self) -> None:
        """Bring metrics.csv up to date."""
        write_csv(self.path / "metrics.csv", COLUMNS, self.records())

    def records(self) -> list[dict[str, Any]]:
        """All records so far."""
        return read_records(self._metrics)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        write_atomic(self.path / name, (json.dumps(content, indent=2) + "\n").encode())
