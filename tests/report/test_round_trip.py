"""A report that is written and read again is the same report, whatever it holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.report.conclude import reasons
from trialplate.report.fold import fold
from trialplate.report.model import (
    Case,
    Code,
    Dataset,
    Environment,
    Measurement,
    NotCollected,
    Null,
    Policy,
    Report,
    Run,
    Setting,
    Subject,
    Verdict,
)  # fmt: skip
from trialplate.report.store import decode, encode, read_report, write_report

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(0, 2**63 - 1)
SCALAR = st.one_of(TEXT, st.integers(-(2**63), 2**63 - 1), NUMBER, st.booleans())
PAIR = st.none() | st.tuples(NUMBER, NUMBER)
PARAMS = st.dictionaries(TEXT, SCALAR, max_size=3)


def some(strategy):
    return st.lists(strategy, max_size=2)


MEASUREMENT = st.builds(
    Measurement, case=TEXT, subject=TEXT, metric=TEXT, params=PARAMS, value=NUMBER, n=COUNT, stderr=st.none() | NUMBER, ci=PAIR,
    level=NUMBER, null=st.none() | st.builds(Null, kind=TEXT, value=NUMBER, n=st.none() | COUNT, ci=PAIR), unit=TEXT,
    direction=st.sampled_from(["higher", "lower", "none"]), range=st.tuples(st.none() | NUMBER, st.none() | NUMBER),
)  # fmt: skip
CASE = st.builds(
    Case, id=TEXT, subject=TEXT, outcome=st.sampled_from(["passed", "skipped", "not run"]), reason=TEXT, duration_s=NUMBER, source=TEXT,
    gate=st.booleans(), measured=COUNT,
)  # fmt: skip
VERDICT = st.builds(
    Verdict, gate=TEXT, subject=TEXT, status=st.sampled_from(["PASS", "FAIL", "MISSING"]), required=st.booleans(), policy=TEXT, metric=TEXT,
    bound=TEXT, value=st.none() | NUMBER, n=st.none() | COUNT, matched=COUNT, reason=TEXT, why=TEXT,
)  # fmt: skip
RUN = st.builds(
    Run, id=TEXT, state=st.sampled_from(["started", "finished", "interrupted"]), started_at=TEXT, finished_at=st.none() | TEXT,
    argv=some(TEXT), exit_status=st.none() | st.integers(0, 5), attempts=COUNT, seed=st.integers(-5, 5), judged=st.booleans(),
    filters=some(TEXT), subjects=some(TEXT), workers=COUNT,
)  # fmt: skip
SUBJECT = st.builds(
    Subject, key=TEXT, label=TEXT, device=TEXT, dtype=TEXT, weights_digest=TEXT, adapter_digest=st.none() | TEXT,
    hub_id=st.none() | TEXT, n_parameters=COUNT,
)  # fmt: skip
ENVIRONMENT = st.builds(
    Environment, python=TEXT, platform=TEXT, cpu=TEXT, cpu_count=COUNT, threads=st.none() | COUNT, gpus=some(PARAMS),
    packages=st.dictionaries(TEXT, TEXT, max_size=2),
)  # fmt: skip


@st.composite
def reports(draw):
    parts = {
        "run": draw(RUN), "subjects": draw(some(SUBJECT)), "cases": draw(some(CASE)), "measurements": draw(some(MEASUREMENT)),
        "gates": draw(some(VERDICT)), "errors": draw(some(TEXT)),
        "not_collected": draw(some(st.builds(NotCollected, case=TEXT, subject=TEXT, reason=TEXT))),
    }  # fmt: skip
    why = reasons(
        parts["run"], parts["subjects"], parts["cases"], parts["measurements"], parts["gates"], parts["errors"], parts["not_collected"]
    )  # fmt: skip
    return Report(
        pass_all=not why,
        reasons=why,
        code=draw(st.builds(Code, trialplate=TEXT, trialplate_sha256=TEXT, commit=st.none() | TEXT, dirty=st.none() | st.booleans())),
        config=draw(st.dictionaries(TEXT, st.builds(Setting, value=st.none() | SCALAR | some(TEXT), origin=TEXT), max_size=2)),
        data=draw(some(st.builds(Dataset, name=TEXT, sha256=TEXT, n_items=COUNT, seed=st.none() | COUNT))),
        environment=draw(ENVIRONMENT),
        policies=draw(some(st.builds(Policy, name=TEXT, sha256=TEXT, n_gates=COUNT, subjects=some(TEXT)))),
        degraded=draw(some(TEXT)),
        **parts,
    )  # fmt: skip


@given(reports())
@settings(max_examples=80, deadline=None)
def test_what_is_read_is_what_was_written(report):
    data = encode(report)
    assert decode(data, "report.json") == report
    assert encode(decode(data, "report.json")) == data


@pytest.mark.fast
def test_the_schema_version_comes_first_and_the_file_ends_in_a_newline(make, tmp_path):
    report = fold(make.passing())
    text = write_report(tmp_path, report).read_text()
    assert text.splitlines()[1] == ' "schema_version": 1,'
    assert text.endswith("}\n")
    assert read_report(tmp_path / "report.json") == report
