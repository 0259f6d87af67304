"""record(): plain finite numbers in, plain data out; everything else is refused at once, by name."""

import enum
import json
import math
from types import SimpleNamespace

import execnet
import msgspec
import numpy as np
import pytest
import torch

from trialplate.report.catalogue import METRICS, Metric
from trialplate.report.model import Dataset, Measurement, Sample
from trialplate.report.recording import Recorder, RecordError

pytestmark = pytest.mark.fast


class Name(str, enum.Enum):  # noqa: UP042  (str() of it is another text)
    K = "k"


@pytest.fixture
def record():
    return Recorder("probes/test_x.py::test_a", "m|cpu|float32", {"own": Metric("widget", "lower", 0.0, None, "")})


def said(record, *args, **kwargs):
    with pytest.raises(RecordError) as caught:
        record(*args, **kwargs)
    assert record.measurements == []
    assert record.samples == []
    return str(caught.value)


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5]), True, 1],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_any_single_number_becomes_a_plain_float(record, value):
    found = record("accuracy", value, n=np.int64(10))
    assert type(found) is float
    assert type(record.measurements[0]["value"]) is float
    assert type(record.measurements[0]["n"]) is int


def test_what_is_recorded_crosses_processes_and_is_kept(record):
    record(
        "accuracy", np.float32(0.5), n=4, stderr=np.float64(0.1), ci=np.array([0.25, 0.75]), null=("chance", np.float32(0.5)),
        samples=[{"item": np.str_("é"), "value": np.bool_(True), "layer": np.int32(3), "ok": np.bool_(False), "name": Name.K}],
        k=np.int64(5), name=Name.K, text=np.str_("x"), flag=np.bool_(True), share=np.float32(0.25),
    )  # fmt: skip
    record.uses("corpus", "00", np.int64(7), seed=np.int64(3), revision="main", license=None)
    payload = execnet.loads(execnet.dumps(record.payload()))  # refuses every subclass of a plain type
    (measurement,) = msgspec.convert(payload["measurements"], list[Measurement])
    assert measurement.params == {"k": 5, "name": "k", "text": "x", "flag": True, "share": 0.25}
    assert (measurement.ci, measurement.range, measurement.direction) == ((0.25, 0.75), (0.0, 1.0), "higher")
    (sample,) = msgspec.convert(payload["samples"], list[Sample])
    assert sample.extra == {"layer": 3, "ok": False, "name": "k"}
    assert msgspec.convert(payload["data"], list[Dataset]) == [
        Dataset(name="corpus", sha256="00", n_items=7, seed=3, revision="main")
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.inf)], ids=str)
def test_a_number_that_is_not_finite_is_refused(record, value):
    assert "only finite numbers are recorded" in said(record, "accuracy", value, n=3)
    assert "only finite numbers are recorded" in said(record, "accuracy", 0.5, n=3, stderr=value)
    assert "only finite numbers are recorded" in said(record, "accuracy", 0.5, n=3, ci=(0.1, value))
    assert "only finite numbers are recorded" in said(record, "accuracy", 0.5, n=3, level=value)
    assert "only finite numbers are recorded" in said(record, "accuracy", 0.5, n=3, null=("chance", value))
    assert "only finite numbers are recorded" in said(
        record, "accuracy", 0.5, n=3, samples=[{"item": 1, "value": value}]
    )
    assert "must be a string, a boolean or a finite number" in said(record, "accuracy", 0.5, n=3, k=value)


@pytest.mark.parametrize(
    "value", [None, "0.5", b"1", [0.5], np.zeros(2), torch.zeros(2), 1j, 10**400], ids=lambda v: type(v).__name__
)
def test_what_is_no_single_number_is_refused(record, value):
    assert said(record, "accuracy", value, n=3).startswith("accuracy: value must be one number, got ")


def test_a_value_outside_its_range_is_refused(record):
    assert "accuracy: 1.2 lies outside what it can attain, [0.0, 1.0] fraction" in said(record, "accuracy", 1.2, n=3)
    assert "perplexity: 0.5 lies outside" in said(record, "perplexity", 0.5, n=3)
    assert record("accuracy", 1 + 1e-12, n=3) == 1 + 1e-12  # rounding at the edge


@pytest.mark.parametrize(
    ("n", "what"),
    [
        (None, "say how many observations it rests on"), (0, "n must be at least 1, got 0; nothing was observed"),
        (-3, "n must be at least 1"), (2.5, "n must be a whole number of observations, got 2.5"), (math.nan, "n is nan"),
        ("3", "n must be one number, got str '3'"),
    ],
)  # fmt: skip
def test_a_measurement_says_on_how_many_observations_it_rests(record, n, what):
    assert what in said(record, "accuracy", 0.5, n=n)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"stderr": -0.1}, "stderr must not be negative, got -0.1"), ({"ci": (0.9, 0.1)}, "ci must be (low, high), got (0.9, 0.1)"),
        ({"ci": (0.1,)}, "ci must be a pair (low, high), got tuple"), ({"ci": 0.3}, "ci must be a pair"),
        ({"level": 1}, "level must lie inside (0, 1)"), ({"level": 95}, "level must lie inside (0, 1)"),
        ({"null": 0.5}, "null must be (kind, number) or (kind, estimate), got 0.5"),
        ({"null": (1, 0.5)}, "the kind of its null must be text"), ({"k": [1]}, "parameter k must be a string"),
        ({"k": 2**70}, "parameter k must be a string, a boolean or a finite number of 64 bits"), ({"k": None}, "parameter k"),
        ({"samples": [{"item": "a"}]}, "a sample needs `item` and `value`, got keys ['item']"),
        ({"samples": [{"item": "a", "value": 1, "x": None}]}, "sample field x must be a string"),
    ],
    ids=str,
)  # fmt: skip
def test_evidence_that_is_none_is_refused(record, given, what):
    assert what in said(record, "accuracy", 0.5, n=3, **given)


def test_an_unknown_metric_needs_unit_and_direction(record):
    assert "'accuray' is not in the metric catalogue; add it through the hook trialplate_metrics" in said(
        record, "accuray", 0.5, n=3
    )
    assert "is not in the metric catalogue" in said(record, "mine", 0.5, n=3, unit="x", direction="up")
    assert "the name of a metric must be text" in said(record, 3, 0.5, n=3)
    record("mine", -7, n=3, unit="x", direction="none")
    record("own", 2, n=3)
    assert [(m["unit"], m["direction"], m["range"]) for m in record.measurements] == [
        ("x", "none", (None, None)),
        ("widget", "lower", (0.0, None)),
    ]


def test_the_same_metric_with_the_same_params_is_refused(record):
    record("accuracy", 0.5, n=3, k=1)
    record("accuracy", 0.5, n=3, k=1.0)  # 1, 1.0 and true are three values
    record("accuracy", 0.5, n=3, k=True)
    record("accuracy", 0.5, n=3)
    with pytest.raises(RecordError, match=r"accuracy with \{'k': 1\} was already recorded in probes/test_x.py::test_a"):
        record("accuracy", 0.5, n=3, k=np.int64(1))
    assert len(record.measurements) == 4


def test_an_estimate_brings_its_evidence(record):
    estimate = SimpleNamespace(value=0.5, n=20, stderr=0.1, ci=(0.3, 0.7), level=0.9)
    record("accuracy", estimate, null=("shuffled labels", SimpleNamespace(value=0.25, n=9, ci=(0.1, 0.4))))
    (m,) = record.measurements
    assert (m["value"], m["n"], m["stderr"], m["ci"], m["level"]) == (0.5, 20, 0.1, (0.3, 0.7), 0.9)
    assert m["null"] == {"kind": "shuffled labels", "value": 0.25, "n": 9, "ci": (0.1, 0.4)}


def test_text_that_utf8_cannot_hold_is_escaped(record):
    record("accuracy", 0.5, n=1, text="\ud800", samples=[{"item": "\udcff", "value": 1}])
    assert json.loads(msgspec.json.encode(record.payload()))["measurements"][0]["params"] == {"text": "\\ud800"}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"n_items": 0}, "data set d: n_items must be at least 1"), ({"sha256": None}, "data set d: sha256 must be text"),
        ({"colour": "red"}, "colour='red' is not kept; a data set has seed (int), revision and license (text)"),
        ({"seed": "x"}, "seed='x' is not kept"), ({"name": 3}, "the name of a data set must be text"),
    ],
    ids=str,
)  # fmt: skip
def test_a_data_set_that_could_not_be_kept_is_refused(record, given, what):
    with pytest.raises(RecordError) as caught:
        record.uses(**{"name": "d", "sha256": "0", "n_items": 1, **given})
    assert what in str(caught.value)
    assert record.data == []


def test_the_catalogue_is_consistent():
    for name, row in METRICS.items():
        assert row.unit, name
        assert row.text, name
        assert row.direction in ("higher", "lower", "none")
        assert row.low is None or row.high is None or row.low < row.high
