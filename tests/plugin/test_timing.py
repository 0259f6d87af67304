"""Timings are taken alone or not at all: under xdist, with benchmarks off or without their plugin the cases are not collected."""

import pytest

TIMED = """
def test_speed(benchmark, record):
    benchmark.pedantic(sum, args=([1, 2],), rounds=3)
    record("seconds", benchmark.stats.stats.mean, n=3)

def test_b(record):
    record("loss", 1, n=1)
"""


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["-n", "1"], "timing is off under xdist; run it without -n"),
        (["--benchmark-disable"], "timing is off by --benchmark-disable"),
        (["-p", "no:pytest_benchmark.plugin"], "timing needs the plugin pytest-benchmark"),
    ],
    ids=["xdist", "disabled", "no plugin"],
)  # fmt: skip
def test_not_collected_with_the_reason(suite, args, why):
    suite.standard().write("evals/test_probe.py", TIMED)
    plugins = [*args, "-p", "trialplate.plugin", "-p", "xdist.plugin"]
    if "no:" not in args[-1]:
        plugins += ["-p", "pytest_benchmark.plugin"]
    suite.run("evals", plugins=plugins)
    (left_out,) = suite.report().not_collected
    assert (left_out.case, left_out.reason) == ("test_probe.py::test_speed", why)


def test_alone_they_are_taken(suite):
    suite.standard().write("evals/test_probe.py", TIMED)
    suite.run("evals")
    report = suite.report()
    assert report.not_collected == []
    (seconds,) = [m for m in report.measurements if m.metric == "seconds"]
    assert (seconds.n, seconds.unit) == (3, "s")
