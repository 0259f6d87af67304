"""Constructors of gates and evidence with everything filled in."""

from types import SimpleNamespace

import pytest

from trialplate.gates.bind import Binding
from trialplate.gates.judge import Evidence, judge
from trialplate.gates.policy import Gate, Policy
from trialplate.report.model import Case, Measurement

KEY = "m|cpu|float32"


def _measurement(value=0.9, **more):
    given = {
        "case": "a", "subject": KEY, "metric": "accuracy", "n": 100, "unit": "fraction", "direction": "higher", "range": (0.0, 1.0),
    }  # fmt: skip
    return Measurement(value=value, **{**given, **more})


def _gate(**more):
    given = {"name": "g", "metric": "accuracy"}
    if not {"min", "max"} & set(more):
        given["min"] = 0.5
    return Gate(**{**given, **more})


def _bind(gate, subject=KEY):
    policy = Policy(name="p", models=["*"], gates=[gate], sha256="", path="p.toml")
    return Binding(policy, gate, subject, "m")


def _evidence(*measurements, outcome="passed", cases=None, **more):
    """The measurements with the cases that recorded them."""
    if cases is None:
        counts = {}
        for m in measurements:
            counts[m.case, m.subject] = counts.get((m.case, m.subject), 0) + 1
        cases = [Case(id=case, subject=s, outcome=outcome, measured=n) for (case, s), n in counts.items()]
    return Evidence(measurements=list(measurements), cases={c.id: c for c in cases}, **more)


def _verdict(gate, *measurements, **more):
    (found,) = judge([_bind(gate)], _evidence(*measurements, **more))
    return found


@pytest.fixture(scope="session")
def make():
    """`make.verdict(gate, *measurements)` judges; the rest are constructors."""
    return SimpleNamespace(
        KEY=KEY, measurement=_measurement, gate=_gate, bind=_bind, evidence=_evidence, verdict=_verdict, case=Case
    )
