"""Measurements are JUnit properties on request only, once a case, also where a case has subtests."""

import xml.etree.ElementTree as ET

import pytest

CASES = """
def test_a(record, subtests):
    record("accuracy", 0.5, n=3, k=1)
    with subtests.test("part"):
        pass
    record("accuracy", 0.75, n=3)
"""


@pytest.mark.parametrize(("n", "asked"), [(0, True), (1, True), (0, False)])
def test_on_request_only(suite, n, asked):
    suite.standard().write("evals/test_probe.py", CASES)
    suite.run(
        "evals",
        "-n",
        n,
        "--junitxml=junit.xml",
        "-o",
        "junit_family=xunit1",
        *(["--trialplate-junit-properties"] if asked else []),
    )
    cases = [c for c in ET.parse(suite.path / "junit.xml").iter("testcase") if c.get("name") == "test_a"]
    found = [(p.get("name"), p.get("value")) for c in cases for p in c.iter("property")]
    assert found == ([("accuracy{'k': 1}", "0.5"), ("accuracy", "0.75")] if asked else [])
