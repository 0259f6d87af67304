"""The end of a run: report, tables, samples, and whoever else wants the report. A failed write leaves the placeholder standing."""

from __future__ import annotations

import re

import pytest

from trialplate.plugin import devices, hookspec, subjects
from trialplate.plugin.run import RunState
from trialplate.report.journal import JournalError, read_journal
from trialplate.report.model import Report
from trialplate.report.store import ReportError, write_report


def explain_empty(config: pytest.Config, run: RunState) -> None:
    """Say why `-m gpu` selected nothing, where that is because there is no GPU."""
    present = subjects.present_devices(config)
    asked = re.search(r"(?<!not )\bgpu\b", config.getoption("markexpr", "") or "")
    if asked and not any(subjects.is_gpu(name) for name in present):
        build = "" if devices.torch_has_cuda() else "; the installed torch is a CPU build"
        run.note("error", f"-m gpu: no GPU is present (devices: {', '.join(sorted(present))}{build})")


def write_everything(run: RunState, report: Report) -> None:
    """Tables first, the report last: a report that stands has its tables beside it."""
    from trialplate.writers.samples import write_samples
    from trialplate.writers.tables import write_tables

    try:
        write_tables(run.folder, report)
        write_samples(run.folder, read_journal(run.folder)[0])
        write_report(run.folder, report)
    except OSError as e:
        run.broken = f"the report could not be written: {e.strerror or e}; what was measured is in {run.folder.name}/journal.ndjson"
    except (ReportError, JournalError) as e:
        run.broken = f"the report could not be written: {e}"


def tell_others(config: pytest.Config, run: RunState, report: Report) -> None:
    """Hand a report that is on the disk to the suite's own writers, after everything of ours: what they raise costs nobody anything."""
    if run.broken is None:
        hookspec.own_hooks(config).trialplate_write_report(report=report, folder=run.folder)
