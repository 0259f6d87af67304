"""The recording side in an xdist worker: it arranges its items and records; the controller alone writes and judges."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from trialplate.plugin import isolation, keys
from trialplate.plugin.select import SelectPlugin


class WorkerPlugin(SelectPlugin):
    """Selection without the cases that are done and without gates, which it names to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config, config.workerinput["trialplate_done"])  # type: ignore[attr-defined]

    def pytest_collection_finish(self) -> None:
        """What the controller cannot know: it has no items."""
        self.config.workeroutput["trialplate"] = {  # type: ignore[attr-defined]
            "gates": self.gates,
            "not_collected": self.config.stash[keys.NOT_COLLECTED],
        }

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Global generators are seeded for the case and restored after it."""
        with isolation.seeded(self.config, item.nodeid):
            return (yield)
