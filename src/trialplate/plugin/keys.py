"""Where the plugin keeps its state: stash keys, no attributes on pytest's objects and no module globals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trialplate.plugin.run import RunState
    from trialplate.report.recording import Recorder

RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
RUN: pytest.StashKey[RunState] = pytest.StashKey()
POOL: pytest.StashKey[Any] = pytest.StashKey()
CACHE: pytest.StashKey[Any] = pytest.StashKey()
EXTRA_METRICS: pytest.StashKey[tuple[int | None, dict[str, Any]]] = pytest.StashKey()
OWN_HOOKS: pytest.StashKey[Any] = pytest.StashKey()
SUBJECTS: pytest.StashKey[list[Any]] = pytest.StashKey()
BINDINGS: pytest.StashKey[list[Any]] = pytest.StashKey()
NOT_COLLECTED: pytest.StashKey[list[dict[str, str]]] = pytest.StashKey()
MEASURED: pytest.StashKey[set[str]] = pytest.StashKey()
CASE_FILES: pytest.StashKey[dict[str, str]] = pytest.StashKey()
SOURCES: pytest.StashKey[dict[str, str]] = pytest.StashKey()
ENCODERS: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
