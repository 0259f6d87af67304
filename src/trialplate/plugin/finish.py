"""The end of a run: report, tables, samples, and whoever else wants the report. A failed write leaves the placeholder standing."""

from __future__ import annotations

import pytest

from trialplate.plugin import hookspec
from trialplate.plugin.run import RunState
from trialplate.report.journal import read_journal
from trialplate.report.model import Report
from trialplate.report.store import ReportError, write_report


def write_everything(config: pytest.Config, run: RunState, report: Report) -> None:
    """Tables first, the report last: a report that stands has its tables beside it."""
    from trialplate.writers.samples import write_samples
    from trialplate.writers.tables import write_tables

    try:
        write_tables(run.folder, report)
        write_samples(run.folder, read_journal(run.folder)[0])
        write_report(run.folder, report)
    except OSError as e:
        run.broken = f"the report could not be written: {e.strerror or e}; what was measured is in {run.folder.name}/journal.ndjson"
        return
    except ReportError as e:
        run.broken = str(e)
        return
    hookspec.own_hooks(config).trialplate_write_report(report=report, folder=run.folder)
