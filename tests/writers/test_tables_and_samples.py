"""metrics.ndjson, metrics.csv and samples.parquet hold the same numbers as the report, digit for digit."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from trialplate.report.fold import fold
from trialplate.report.journal import Ended, Finished, Selected, Started
from trialplate.report.model import Case, Code, Environment, Measurement, Null, Run, Sample
from trialplate.writers.samples import write_samples
from trialplate.writers.tables import COLUMNS, write_tables

pytestmark = pytest.mark.fast

THIRD = 1 / 3


def run_with(measurements, samples=()):
    run = Run(id="r", state="started", started_at="t")
    code, environment = (
        Code(trialplate="0", trialplate_sha256=""),
        Environment(python="3", platform="", cpu="", cpu_count=1),
    )
    return [
        Started(attempt=1, run=run, code=code, environment=environment, config={}),
        Selected(attempt=1, cases=["a"]),
        Finished(
            attempt=1,
            case=Case(id="a", subject="m", outcome="passed"),
            measurements=measurements,
            samples=list(samples),
        ),
        Ended(attempt=1, state="finished", finished_at="t", exit_status=0, judged=False),
    ]


MEASUREMENTS = [
    Measurement(
        case="a", subject="m", metric="accuracy", params={"name": 'a "quoted", text\nof two lines', "k": 5}, value=THIRD, n=3, stderr=1e-7,
        ci=(0.1, 0.9), null=Null(kind="chance", value=0.25), unit="fraction", direction="higher",
    ),
    Measurement(case="a", subject="m", metric="loss", value=1e-300, n=1, unit="nat", direction="lower"),
]  # fmt: skip


def test_both_tables_say_what_the_report_says(tmp_path):
    report = fold(run_with(MEASUREMENTS))
    write_tables(tmp_path, report)
    lines = [json.loads(line) for line in (tmp_path / "metrics.ndjson").read_text().splitlines()]
    with (tmp_path / "metrics.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert tuple(rows[0]) == COLUMNS
    assert [list(line) for line in lines] == [list(COLUMNS)] * 2
    for m, line, row in zip(report.measurements, lines, rows, strict=True):
        assert (line["run"], line["case"], line["metric"]) == ("r", "a", m.metric)
        assert (line["value"], float(row["value"])) == (m.value, m.value)
        assert json.loads(line["params"]) == json.loads(row["params"]) == m.params
    assert (rows[0]["null_kind"], rows[0]["null_value"], float(rows[0]["ci_high"])) == ("chance", "0.25", 0.9)
    assert (rows[1]["null_kind"], rows[1]["stderr"], lines[1]["ci_low"]) == ("", "", None)


def test_no_measurement_is_an_empty_table_with_a_head(tmp_path):
    write_tables(tmp_path, fold(run_with([])))
    assert (tmp_path / "metrics.ndjson").read_bytes() == b""
    assert (tmp_path / "metrics.csv").read_text().strip() == ",".join(COLUMNS)


def test_one_row_an_item(tmp_path):
    samples = [
        Sample(metric="accuracy", params={"k": 5}, item=f"i{i}", value=i / 3, extra={"token": "é"}) for i in range(3)
    ]
    write_samples(tmp_path, run_with(MEASUREMENTS, samples))
    rows = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    assert rows[1] == {
        "subject": "m", "case": "a", "metric": "accuracy", "params": '{"k":5}', "item": "i1", "value": THIRD, "extra": '{"token":"é"}',
    }  # fmt: skip
    assert len(rows) == 3


def test_no_samples_no_file(tmp_path):
    write_samples(tmp_path, run_with(MEASUREMENTS))
    assert list(tmp_path.iterdir()) == []
