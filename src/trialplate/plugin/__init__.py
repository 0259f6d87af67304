"""The pytest plugin of trialplate, `pytest11: trialplate`. Every pytest run on a machine that has it pays for this module: it imports
pytest and the standard library, registers options and fixtures, and does nothing else until a report is asked for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from trialplate.plugin import keys, options
from trialplate.plugin.fixtures import (  # noqa: F401  (pytest finds fixtures by name in this module)
    control,
    control_scorer,
    data_dir,
    golden_dir,
    golden_file,
    golden_update,
    limit,
    model,
    progress,
    record,
    rng,
    scorer,
    seed,
    source,
    subject,
    tokenizer,
    trialplate_gate,
    trialplate_subject,
    verdict,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the prefixed options and their ini twins."""
    options.add_options(parser)


@pytest.hookimpl(trylast=True)  # after the xdist plugin: whether this is a worker must be known
def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; start a report where one is asked for."""
    for line in options.MARKS:
        config.addinivalue_line("markers", line)
    if any(config.getoption(options.dest(name), None) for name in options.SHORT):
        from trialplate.plugin import rootdir

        rootdir.check(config)
    if options.is_worker(config):
        if "trialplate_done" in config.workerinput:  # type: ignore[attr-defined]
            from trialplate.plugin import worker

            config.pluginmanager.register(worker.WorkerPlugin(config), "trialplate-worker")
    elif options.is_active(config):
        from trialplate.plugin import start

        start.start(config)
    elif options.is_dry(config):
        from trialplate.plugin.select import SelectPlugin

        config.pluginmanager.register(SelectPlugin(config), "trialplate-select")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release what configure took."""
    if (run := config.stash.get(keys.RUN, None)) is not None:
        run.close()


@pytest.hookimpl(trylast=True)  # after the suite's own: what it parametrizes itself is its own
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases over subjects, and over gates: only where our own fixtures are used, so that a suite's own `model` is left alone."""
    if "trialplate_subject" in metafunc.fixturenames or "trialplate_gate" in metafunc.fixturenames:
        from trialplate.plugin import parametrize

        parametrize.parametrize(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the case recorded on its report, as one attribute of plain data."""
    recorder = item.stash.get(keys.RECORDER, None)
    if recorder is not None and call.when == "teardown" and item.config.getoption(options.dest("junit_properties")):
        # the report of the teardown is the one that JUnit takes properties from
        item.user_properties += [(f"{m['metric']}{m['params'] or ''}", m["value"]) for m in recorder.measurements]
    report = yield
    if recorder is not None and report.when == "call":
        report.trialplate = recorder.payload()  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say so where measurements were recorded and nothing judged them: a passed suite must not look like a passed policy."""
    reports = (r for found in terminalreporter.stats.values() for r in found)
    if config.stash.get(keys.RUN, None) is None and any(hasattr(r, "trialplate") for r in reports):
        text = "trialplate: measurements were recorded, and neither reported nor judged; name the folder of evals, or give --trialplate-report DIR"
        terminalreporter.write_line(text, yellow=True)
