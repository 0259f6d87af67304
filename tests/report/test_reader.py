"""The reader believes nothing that the file's own content does not bear out."""

import json
import math

import msgspec
import pytest

from trialplate import __version__
from trialplate.report.fold import fold
from trialplate.report.store import ReportError, decode, encode, load_run, read_report, write_report

pytestmark = pytest.mark.fast


@pytest.fixture
def plain(make):
    """A passing report as plain data, to be spoilt."""
    return json.loads(encode(fold(make.passing())))


def refusal(plain):
    with pytest.raises(ReportError) as caught:
        decode(json.dumps(plain).encode(), "r/report.json")
    return str(caught.value)


def test_an_unknown_version_is_refused_before_anything_else(plain):
    plain |= {"schema_version": 2, "new": 1}
    assert refusal(plain) == (
        "r/report.json has schema version 2, this trialplate reads 1; read it with the release that wrote it"
    )


@pytest.mark.parametrize("place", [(), ("run",), ("cases", 0), ("measurements", 0), ("gates", 0)], ids=str)
def test_an_unknown_key_is_refused_anywhere(plain, place):
    spoilt = plain
    for step in place:
        spoilt = spoilt[step]
    spoilt["surprise"] = 1
    assert "unknown field `surprise`" in refusal(plain)


def test_an_edited_pass_all_is_refused(plain):
    plain |= {"pass_all": False}
    assert refusal(plain) == (
        "r/report.json says pass_all=false, its content says true; the file was edited or damaged: "
        "fold it again from its journal"
    )


def test_a_red_report_edited_to_green_is_refused_with_the_reason(plain):
    plain["gates"][0] |= {"status": "FAIL", "reason": "low"}
    assert "says pass_all=true, its content says false (gate g on m|cpu|float32: FAIL: low)" in refusal(plain)


def test_edited_reasons_are_refused_unless_another_release_said_them(plain):
    plain["gates"][0] |= {"status": "FAIL", "reason": "low"}
    plain |= {"pass_all": False, "reasons": ["in other words"]}
    assert decode(json.dumps(plain).encode(), "r").reasons == ["in other words"]
    plain["code"]["trialplate"] = __version__
    assert "states 1 reasons, its content gives 1" in refusal(plain)


def test_a_measurement_that_was_taken_out_is_noticed(plain):
    plain["measurements"] = []
    assert "its content says false (nothing was measured)" in refusal(plain)


@pytest.mark.parametrize("value", [None, "NaN", True])
def test_a_value_that_is_no_number_is_refused(plain, value):
    plain["measurements"][0]["value"] = value
    assert "$.measurements[0].value" in refusal(plain)


def test_a_bare_nan_is_no_json(make):
    data = encode(fold(make.passing())).replace(b'"value": 0.9', b'"value": NaN', 1)
    with pytest.raises(ReportError, match="is not a trialplate report"):
        decode(data, "r")


@pytest.mark.parametrize("field", [{"value": math.nan}, {"stderr": math.inf}, {"ci": (0.0, math.nan)}], ids=str)
def test_a_number_that_is_not_finite_is_not_written(make, field):
    started, selected, _, *rest = make.passing()
    report = fold([started, selected, make.finished(measurements=[make.measurement(**field)]), *rest])
    with pytest.raises(ReportError, match="a report holds finite numbers only"):
        encode(report)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b'{"schema_version": "1"}'])
def test_anything_else_is_no_report(data):
    with pytest.raises(ReportError, match="r is not a trialplate report"):
        decode(data, "r")


def test_a_file_that_is_not_there_says_what_to_give(tmp_path):
    with pytest.raises(ReportError, match=r"cannot read .*report.json: No such file.*pytest --report DIR"):
        read_report(tmp_path / "report.json")


def test_a_run_folder_is_read_from_its_journal_first(make, tmp_path):
    write_report(tmp_path, fold(make.passing()))
    (tmp_path / "journal.ndjson").write_bytes(msgspec.json.encode(make.started()) + b"\n")
    assert load_run(tmp_path).reasons == ["the run did not finish", "nothing was measured"]


def test_a_run_folder_without_a_journal_is_read_from_its_report(make, tmp_path):
    write_report(tmp_path, fold(make.passing()))
    assert load_run(tmp_path).pass_all
    (tmp_path / "journal.ndjson").touch()  # locked, and killed before its first event
    assert load_run(tmp_path).pass_all


def test_a_run_folder_that_cannot_be_read_is_said(make, tmp_path):
    with pytest.raises(ReportError, match="is not a folder; give a run folder, such as reports/latest"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "journal.ndjson").write_bytes(b"?\n")
    with pytest.raises(ReportError, match=r"journal.ndjson:1: not an event"):
        load_run(tmp_path)
    (tmp_path / "journal.ndjson").write_bytes(msgspec.json.encode(make.ended()) + b"\n")
    with pytest.raises(ReportError, match="no run started"):
        load_run(tmp_path)
