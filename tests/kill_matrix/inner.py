"""Runs of the evals inside this process: what a person would type, and the report that it wrote."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from trialplate.report.model import Report
from trialplate.report.store import load_run

ROOT = Path(__file__).parents[2]
EVALS = ROOT / "evals"
# Nothing is timed, nothing is kept between runs, nobody reads what is printed, and quoting sources in tracebacks costs seconds.
QUIET = (
    "--benchmark-disable",
    "-q",
    "--tb=native",
    *(f"-pno:{name}" for name in ("cacheprovider", "logging", "unraisableexception")),
)


class InnerRunError(Exception):
    """pytest did not get as far as a report; the text is what it printed."""


def run_evals(
    report: Path, arguments: Sequence[str], plugins: Sequence[Any] = (), paths: Sequence[str] = ("evals",)
) -> Report:
    """The report of `pytest PATHS ARGUMENTS` in this repository, written to the folder `report`. `plugins` are objects with hooks."""
    where = [str(ROOT / path) for path in paths] + [
        f"--rootdir={ROOT}",
        "-c",
        str(ROOT / "pyproject.toml"),
        f"--report={report}",
    ]
    said = io.StringIO()
    with _as_if_new(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*where, *QUIET, *arguments], plugins=list(plugins))
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise InnerRunError(f"pytest {' '.join(arguments)} ended with {status!r}:\n{said.getvalue()[-3000:]}")
    return load_run(report)


@contextlib.contextmanager
def _as_if_new() -> Iterator[None]:
    """No option from outside, and modules of evals are imported anew: what they take by name must be what is there now."""
    outside = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if (file := getattr(module, "__file__", None)) and Path(file).is_relative_to(EVALS):
                del sys.modules[name]
        if outside is not None:
            os.environ["PYTEST_ADDOPTS"] = outside
