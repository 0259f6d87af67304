"""The records of a run: one JSON object a line while it runs, and the same as CSV for a spreadsheet.

A line is written and flushed whole. A number that is not finite is written as null: JSON has no NaN, and a reader must not take one for a value.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asa.utils.files import write_atomic

Record = Mapping[str, Any]


def append_record(path: Path, record: Record) -> None:
    """Add one line to a file of records."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, in order; a last line that was cut short (the process died in it) is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return [json.loads(line) for line in lines[:-1] if line]


def keep_records(path: Path, keep: Callable[[Record], bool]) -> None:
    """Rewrite a file of records with those that `keep` accepts, in one step."""
    write_atomic(path, "".join(_line(record) for record in read_records(path) if keep(record)).encode())


def write_csv(path: Path, columns: tuple[str, ...], records: list[dict[str, Any]]) -> None:
    """The records as a table, in one step; what a record lacks is an empty cell. ValueError for a key that is no column."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    write_atomic(path, text.getvalue().encode())


def _line(record: Record) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"
