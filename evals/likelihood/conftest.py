"""Published results beside measured ones, where somebody published any for this model, revision and data set."""

import pytest

from trialplate.models.catalog import canonical_name
from trialplate.tasks.published import load_published


@pytest.fixture
def against_published(record, subject, golden_dir):
    """against_published(metric, value, task, n): how far a value is from the published one, in units of its stated drift."""
    published = load_published(golden_dir / "published.json")
    names = {subject.revision} if subject.revision else {"main", "step143000"}

    def compared(metric, value, task, n):
        for r in published.results:
            if (r.model, r.task, r.metric, r.shots) == (
                canonical_name(subject.name),
                task,
                metric,
                0,
            ) and r.revision in names:
                drift = abs(value - r.value) / r.margin
                record("published_drift", drift, n=n, null=("the published value itself", 0.0), task=task, of=metric)

    return compared
