"""Report files: read strictly, written in one step. What a reader cannot trust it refuses, with the place and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from trialplate import __version__
from trialplate.report.conclude import reasons
from trialplate.report.files import write_atomic
from trialplate.report.fold import FoldError, fold
from trialplate.report.journal import JOURNAL, JournalError, read_journal
from trialplate.report.model import SCHEMA_VERSION, Report

REPORT = "report.json"
SCHEMA_NAME = "trialplate report"
_decoder = msgspec.json.Decoder(Report)


class ReportError(Exception):
    """A report that cannot be read or must not be believed."""


def encode(report: Report) -> bytes:
    """The report as indented JSON, schema version first, one trailing newline. Raises ReportError for a non-finite number."""
    _refuse_non_finite(report)
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def write_report(folder: Path, report: Report) -> Path:
    """Replace the folder's report in one step. Raises OSError when the target cannot be written."""
    path = folder / REPORT
    write_atomic(path, encode(report))
    return path


def read_report(path: Path) -> Report:
    """Read a report file. Refuses unknown versions and keys, and a pass_all that its own content does not bear out."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ReportError(f"cannot read {path}: {e.strerror}; give a folder that `pytest --report DIR` wrote") from e
    return decode(data, str(path))


def decode(data: bytes, where: str) -> Report:
    """Decode and verify the bytes of a report; `where` is named in errors."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
    except msgspec.MsgspecError as e:
        raise ReportError(f"{where} is not a {SCHEMA_NAME}: {e}") from e
    if version != SCHEMA_VERSION:
        raise ReportError(
            f"{where} has schema version {version}, this trialplate reads {SCHEMA_VERSION}; "
            f"read it with the release that wrote it"
        )
    try:
        report = _decoder.decode(data)
    except msgspec.MsgspecError as e:
        raise ReportError(f"{where} does not follow docs/report-schema.json: {e}") from e
    _verify(report, where)
    return report


def load_run(folder: Path) -> Report:
    """The report of a run folder, folded from its journal where the run was cut short before it wrote one."""
    if not folder.is_dir():
        raise ReportError(f"{folder} is not a folder; give a run folder, such as reports/latest")
    if (folder / JOURNAL).is_file():
        try:
            events, torn = read_journal(folder)
            if events:
                return fold(events, torn=torn)
        except (JournalError, FoldError) as e:
            raise ReportError(str(e)) from e
    return read_report(folder / REPORT)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the report, generated from the types that read and write it."""
    schema = msgspec.json.schema(Report)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA_NAME,
        "version": SCHEMA_VERSION,
        **schema,
    }


class _Version(msgspec.Struct):
    schema_version: int


def _verify(report: Report, where: str) -> None:
    why = reasons(
        report.run,
        report.subjects,
        report.cases,
        report.measurements,
        report.gates,
        report.errors,
        report.not_collected,
    )
    if report.pass_all is not (not why):
        raise ReportError(
            f"{where} says pass_all={str(report.pass_all).lower()}, its content says {str(not why).lower()}"
            + (f" ({why[0]})" if why else "")
            + "; the file was edited or damaged: fold it again from its journal"
        )
    # another release may say the same in other words; pass_all it may not say otherwise
    if report.reasons != why and report.code.trialplate == __version__:
        raise ReportError(
            f"{where} states {len(report.reasons)} reasons, its content gives {len(why)}; "
            f"the file was edited or damaged: fold it again from its journal"
        )


def _refuse_non_finite(report: Report) -> None:
    for m in report.measurements:
        numbers = [m.value, m.stderr, *(m.ci or ()), *((m.null.value, *(m.null.ci or ())) if m.null else ())]
        for x in numbers:
            # msgspec would write NaN as null, and a reader would take absence for a measurement
            if x is not None and not -float("inf") < x < float("inf"):
                raise ReportError(f"{m.metric} of {m.case} holds {x}; a report holds finite numbers only")
