"""Absence is never success, over random gates and evidence: taking evidence away, spoiling or thinning it never turns a verdict green."""

import math

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialplate.gates.judge import Evidence, judge
from trialplate.report.model import Case

FEW = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
VALUE = st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9, 1.0])
KEYS = ("m|cpu|float32", "x|cpu|float32")


@st.composite
def situations(draw, make):
    """(gates bound to two subjects, evidence): values, intervals and bounds from a few numbers, so that they meet."""
    measurements = []
    for i in range(draw(st.integers(1, 6))):
        ci = draw(st.none() | st.tuples(VALUE, VALUE).map(sorted).map(tuple))
        measurements.append(
            make.measurement(
                draw(VALUE), case=draw(st.sampled_from("abc")), subject=draw(st.sampled_from(KEYS)), n=draw(st.sampled_from([1, 50, 100])),
                ci=ci, stderr=draw(st.none() | st.sampled_from([0.0, 0.05])), level=draw(st.sampled_from([0.9, 0.95])),
                params={"k": draw(st.sampled_from([1, 5])), "i": i}, metric=draw(st.sampled_from(["accuracy", "acc"])),
            )
        )  # fmt: skip
    # a case belongs to one subject
    subject_of = {m.case: m.subject for m in measurements}
    measurements = [msgspec.structs.replace(m, subject=subject_of[m.case]) for m in measurements]
    cases = {
        c: Case(id=c, subject=s, outcome=draw(st.sampled_from(["passed"] * 4 + ["failed"])), measured=sum(m.case == c for m in measurements))
        for c, s in subject_of.items()
    }  # fmt: skip
    stale = {"a": "changed"} if draw(st.booleans()) and draw(st.booleans()) else {}
    return [draw(bindings(make)) for _ in range(3)], Evidence(measurements=measurements, cases=cases, stale=stale)


@st.composite
def bindings(draw, make):
    basis = draw(st.sampled_from(["point", "lcb", "ucb"]))
    low, high = sorted([draw(VALUE), draw(VALUE)])
    bound = {
        "lcb": {"min": low},
        "ucb": {"max": high},
        "point": draw(st.sampled_from([{"min": low}, {"max": high}, {"min": low, "max": high}])),
    }
    gate = make.gate(
        basis=basis, level=draw(st.sampled_from([0.9, 0.95, 0.99])), min_n=draw(st.sampled_from([1, 60])),
        metric=draw(st.sampled_from(["accuracy", "acc"])), where=draw(st.sampled_from([{}, {"k": 1}, {"k": 9}])),
        covers=draw(st.sampled_from([{}, {"k": [1]}, {"k": [1, 5]}])), **bound[basis],
    )  # fmt: skip
    return make.bind(gate, draw(st.sampled_from(KEYS)))


def statuses(bound, evidence):
    return [v.status for v in judge(bound, evidence)]


def turned_green(before, after):
    return [(b, a) for b, a in zip(before, after, strict=True) if a == "PASS" != b]


@FEW
@given(data=st.data())
def test_removing_a_measurement_never_turns_a_verdict_green(make, data):
    bound, evidence = data.draw(situations(make))
    gone = data.draw(st.integers(0, len(evidence.measurements) - 1))
    left = with_measurements(evidence, [m for i, m in enumerate(evidence.measurements) if i != gone])
    assert not turned_green(statuses(bound, evidence), statuses(bound, left))


@FEW
@given(data=st.data())
def test_spoiling_a_measurement_never_turns_a_verdict_green(make, data):
    bound, evidence = data.draw(situations(make))
    spoilt = data.draw(st.integers(0, len(evidence.measurements) - 1))
    worse = data.draw(
        st.sampled_from([{"value": math.nan}, {"value": 2.0}, {"stderr": math.nan}, {"ci": (math.nan, 1.0)}, {"case": "unknown"}])
    )  # fmt: skip
    changed = [msgspec.structs.replace(m, **worse) if i == spoilt else m for i, m in enumerate(evidence.measurements)]
    assert not turned_green(statuses(bound, evidence), statuses(bound, with_measurements(evidence, changed)))


@FEW
@given(data=st.data())
def test_thinning_a_measurement_never_turns_a_verdict_green(make, data):
    bound, evidence = data.draw(situations(make))
    thin = data.draw(st.integers(0, len(evidence.measurements) - 1))

    def thinner(m):
        """Fewer items: its interval grows about its value, or is lost."""
        n = max(1, m.n // 2)
        if m.ci is None or data.draw(st.booleans()):
            return msgspec.structs.replace(m, n=n, ci=None, stderr=None if m.ci else m.stderr and 2 * m.stderr)
        low, high = (2 * end - m.value for end in m.ci)
        return msgspec.structs.replace(m, n=n, ci=(min(low, m.ci[0]), max(high, m.ci[1])))

    changed = [thinner(m) if i == thin else m for i, m in enumerate(evidence.measurements)]
    assert not turned_green(statuses(bound, evidence), statuses(bound, with_measurements(evidence, changed)))


@FEW
@given(data=st.data())
def test_a_case_that_no_longer_passes_never_turns_a_verdict_green(make, data):
    bound, evidence = data.draw(situations(make))
    worse = data.draw(st.sampled_from(sorted(evidence.cases)))
    cases = {**evidence.cases, worse: msgspec.structs.replace(evidence.cases[worse], outcome="skipped")}
    changed = Evidence(measurements=evidence.measurements, cases=cases, stale=evidence.stale)
    assert not turned_green(statuses(bound, evidence), statuses(bound, changed))


@FEW
@given(data=st.data())
def test_the_order_of_the_evidence_does_not_matter(make, data):
    bound, evidence = data.draw(situations(make))
    shuffled = with_measurements(evidence, data.draw(st.permutations(evidence.measurements)))
    assert judge(bound, shuffled) == judge(bound, evidence)


@FEW
@given(data=st.data())
def test_pass_is_never_given_for_nothing(make, data):
    bound, evidence = data.draw(situations(make))
    assert "PASS" not in statuses(bound, Evidence(measurements=[], cases={}))
    assert "PASS" not in statuses(bound, with_measurements(evidence, []))


def with_measurements(evidence, measurements):
    """The same cases with other measurements."""
    return Evidence(measurements=list(measurements), cases=evidence.cases, stale=evidence.stale)
