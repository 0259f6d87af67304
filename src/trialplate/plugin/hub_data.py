"""Public data sets from the hub, only with --online: fetched once into the data folder, in the format that the readers expect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class HubDataError(Exception):
    """A data set that cannot be fetched; the text says what is missing."""


class HubData(NamedTuple):
    """Where a file of the data folder comes from."""

    dataset: str
    config: str | None
    split: str
    revision: str | None = None


FILES = {
    "lambada_openai.jsonl": HubData("EleutherAI/lambada_openai", "default", "test"),
    "piqa.jsonl": HubData("baber/piqa", None, "validation", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1"),
    "arc_easy.jsonl": HubData("allenai/ai2_arc", "ARC-Easy", "test", "210d026faf9955653af8916fad021475a3f00453"),
    "sciq.jsonl": HubData("allenai/sciq", None, "test"),
}


def fetch(name: str, folder: Path) -> Path:
    """Write a data set into the folder, whole or not at all, and return the file. Raises HubDataError."""
    try:
        import datasets
    except ImportError as e:
        raise HubDataError(f"fetching {name} needs the data sets library: pip install 'trialplate[datasets]'") from e
    from trialplate.models.hub import transport_errors

    known = FILES[name]
    target = folder / name
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = datasets.load_dataset(known.dataset, known.config, split=known.split, revision=known.revision)
        rows.to_json(str(temporary), force_ascii=False)
        temporary.replace(target)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError, *transport_errors()) as e:
        raise HubDataError(f"cannot fetch {name} ({known.dataset}, split {known.split}): {e}") from e
    finally:
        temporary.unlink(missing_ok=True)
    return target
