"""The small files in `data/samples`: what they hold, as bytes, so that a test can show that they are what the generators make.

To make them again after a change of the generators: `python -m trialplate.tasks.samples data/samples`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from trialplate.tasks.probes.formats_samples import (
    Row,
    arc_rows,
    lambada_rows,
    minimal_pair_rows,
    piqa_rows,
    sciq_rows,
)

SEED = 20
SAMPLES: Mapping[str, tuple[Callable[[int, int], list[Row]], int]] = {
    "lambada": (lambada_rows, 200),
    "piqa": (piqa_rows, 120),
    "arc_easy": (arc_rows, 120),
    "sciq": (sciq_rows, 150),
    "minimal_pairs": (minimal_pair_rows, 180),
}
"""Name of the file and of its reader in `formats.READERS`: generator and number of rows."""


def sample_bytes(name: str) -> bytes:
    """The content of `data/samples/NAME.jsonl`. KeyError for a name that is not in `SAMPLES`."""
    rows, n = SAMPLES[name]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(n, SEED)).encode()


def write_samples(folder: Path) -> list[Path]:
    """Writes every sample into the folder, which is made if absent; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.jsonl" for name in SAMPLES}
    for name, path in paths.items():
        path.write_bytes(sample_bytes(name))
    return list(paths.values())


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]))
