"""Measurements as metrics.ndjson and metrics.csv: the same numbers as in the report, digit for digit, one measurement a row."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec

from trialplate.report.files import write_atomic
from trialplate.report.model import Measurement, Report, params_key

COLUMNS = (
    "run", "subject", "case", "metric", "params", "value", "n", "stderr", "ci_low", "ci_high", "level", "null_kind", "null_value",
    "unit", "direction",
)  # fmt: skip


def write_tables(folder: Path, report: Report) -> None:
    """Write both files beside the report. Raises OSError."""
    rows = [_row(report.run.id, m) for m in report.measurements]
    write_atomic(folder / "metrics.ndjson", b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({k: "" if v is None else v for k, v in r.items()} for r in rows)
    write_atomic(folder / "metrics.csv", text.getvalue().encode())


def _row(run: str, m: Measurement) -> dict[str, Any]:
    low, high = m.ci or (None, None)
    values = (
        run, m.subject, m.case, m.metric, params_key(m.params), m.value, m.n, m.stderr, low, high, m.level,
        m.null.kind if m.null else None, m.null.value if m.null else None, m.unit, m.direction,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))
