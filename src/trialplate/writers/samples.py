"""Per-item samples as samples.parquet: one row an item, with what the item was in a JSON column."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import msgspec

from trialplate.report.files import write_atomic
from trialplate.report.fold import samples
from trialplate.report.journal import AnyEvent
from trialplate.report.model import params_key


def write_samples(folder: Path, events: Iterable[AnyEvent]) -> None:
    """Write the samples of a journal's events; no file where there are none. Raises OSError."""
    rows = [
        {
            "subject": subject,
            "case": case.id,
            "metric": s.metric,
            "params": params_key(s.params),
            "item": s.item,
            "value": s.value,
            "extra": msgspec.json.encode(s.extra).decode(),
        }
        for case, subject, s in samples(events)
    ]
    if not rows:
        return
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, compression="zstd")
    write_atomic(folder / "samples.parquet", buffer.getvalue())
