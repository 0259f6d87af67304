"""Progress of a long case: a bar on a terminal, a plain line every so often elsewhere, nothing for a case that is over at once."""

from __future__ import annotations

import time
from typing import IO, Any, cast

import pytest

from trialplate.plugin import options

QUIET_S = 3.0
LINE_EVERY_S = 15.0


class Progress:
    """Call it with (done, total). Workers show nothing: their output is captured by the controller."""

    def __init__(self, config: pytest.Config, label: str, *, clock: Any = time.monotonic) -> None:
        self._reporter = None if options.is_worker(config) else config.pluginmanager.getplugin("terminalreporter")
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._writer = config.get_terminal_writer() if self._reporter else None
        self._is_terminal = bool(self._reporter and self._reporter.isatty)  # colours can be asked for in a log file too
        self._label, self._clock = label, clock
        self._start = self._said = clock()
        self._bar: Any = None
        self._task: Any = None
        self._opened = False

    def __call__(self, done: int, total: int) -> None:
        """Say how far it is, if it has taken long enough to be worth saying."""
        now = self._clock()
        if self._writer is None or now - self._start < QUIET_S:
            return
        if self._is_terminal:
            self._show_bar(done, total)
        elif now - self._said >= LINE_EVERY_S or not self._opened:
            self._said, self._opened = now, True
            self._write(f"\n  {self._label}: {done}/{total} after {now - self._start:.0f} s\n")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with self._uncaptured():
                self._bar.stop()
            self._bar = None

    def _show_bar(self, done: int, total: int) -> None:
        with self._uncaptured():
            if self._bar is None:
                self._bar, self._task = _bar(self._writer, self._label, total)
            self._bar.update(self._task, completed=done, total=total)
            self._bar.refresh()

    def _write(self, text: str) -> None:
        with self._uncaptured():
            self._writer.write(text, flush=True)  # type: ignore[union-attr]

    def _uncaptured(self) -> Any:
        import contextlib

        return self._capture.global_and_fixture_disabled() if self._capture else contextlib.nullcontext()


def _bar(writer: Any, label: str, total: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(file=cast("IO[str]", _File(writer)), force_terminal=True, width=writer.fullwidth)
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = RichProgress(
        *columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    bar.start()
    return bar, bar.add_task(label, total=total)


class _File:
    """pytest's terminal writer as the file that rich writes to: the captured streams are not the terminal."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        self._writer.write(text)
        return len(text)

    def flush(self) -> None:
        self._writer.flush()
