"""The recording side in an xdist worker: it arranges its items and records; the controller alone writes and judges."""

from __future__ import annotations

import pytest

from trialplate.plugin import keys
from trialplate.plugin.select import SelectPlugin


class WorkerPlugin(SelectPlugin):
    """Selection without the cases that are done and without gates, which it names to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        given = config.workerinput  # type: ignore[attr-defined]
        super().__init__(config, given["trialplate_done"], given["trialplate_known"])
        self.usage_errors: list[str] = []

    def arrange(self, items: list[pytest.Item]) -> None:
        """A usage error here would end this worker half way: xdist has been told its items already. The controller raises it."""
        try:
            super().arrange(items)
        except pytest.UsageError as e:
            self.usage_errors.append(str(e))
            items.clear()

    def pytest_collection_finish(self) -> None:
        """What the controller cannot know: it has no items."""
        self.config.workeroutput["trialplate"] = {  # type: ignore[attr-defined]
            "gates": self.gates,
            "not_collected": self.config.stash[keys.NOT_COLLECTED],
            "subjects": sorted(self.subjects),
            "kept": sorted(set(self.done) & set(self.all_cases)),
            "gone": self.gone(),
            "usage_errors": self.usage_errors,
        }
