"""docs/report-schema.json is what the types say; a change of the types is a change of that file."""

import json
from pathlib import Path

import pytest

from trialplate.report.fold import fold
from trialplate.report.model import SCHEMA_VERSION
from trialplate.report.store import encode, json_schema

pytestmark = pytest.mark.fast

FILE = Path(__file__).parents[2] / "docs" / "report-schema.json"


def test_the_file_is_the_generated_schema():
    assert FILE.read_text() == json.dumps(json_schema(), indent=2) + "\n", "run `make schema` and look at what changed"


def test_the_schema_is_closed_and_knows_its_version():
    schema = json_schema()
    assert schema["version"] == SCHEMA_VERSION
    objects = [d for d in schema["$defs"].values() if d["type"] == "object"]
    assert len(objects) > 10
    assert all(d["additionalProperties"] is False for d in objects)


def test_a_report_has_the_fields_of_the_schema(make):
    report = json.loads(encode(fold(make.passing())))
    fields = json_schema()["$defs"]["Report"]
    assert set(report) <= set(fields["properties"])
    assert set(fields["required"]) <= set(report)
