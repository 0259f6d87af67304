"""Progress of a long case: a bar on a terminal, a plain line every so often elsewhere, nothing for what is over at once."""

import contextlib
from types import SimpleNamespace

import pytest

from trialplate.plugin.progress_bar import LINE_EVERY_S, QUIET_S, Progress

pytestmark = pytest.mark.fast


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Writer:
    """pytest's terminal writer, as far as it is used."""

    hasmarkup, fullwidth = True, 80

    def __init__(self):
        self.text = ""

    def write(self, text, flush=False):
        self.text += text

    def flush(self):
        pass


@pytest.fixture
def shown():
    """shown(isatty, plugins): (progress, clock, writer)."""

    def make(isatty, worker=False, reporter=True):
        writer, clock = Writer(), Clock()
        plugins = {"terminalreporter": SimpleNamespace(isatty=isatty) if reporter else None}
        if reporter:
            capture = SimpleNamespace(global_and_fixture_disabled=contextlib.nullcontext)
            plugins["capturemanager"] = capture
        config = SimpleNamespace(
            pluginmanager=SimpleNamespace(getplugin=plugins.get), get_terminal_writer=lambda: writer, **({"workerinput": {}} if worker else {})
        )  # fmt: skip
        return Progress(config, "test_x[m]", clock=clock), clock, writer

    return make


def test_a_case_that_is_over_at_once_shows_nothing(shown):
    for isatty in (True, False):
        progress, clock, writer = shown(isatty)
        clock.now += QUIET_S - 0.1
        progress(1, 2)
        progress.close()
        assert writer.text == ""


def test_plain_lines_every_so_often(shown):
    progress, clock, writer = shown(False)
    for done in range(1, 41):
        clock.now += 1
        progress(done, 40)
    progress.close()
    first, second, third = [line.strip() for line in writer.text.splitlines() if line.strip()]
    assert first == "test_x[m]: 3/40 after 3 s"
    assert second == f"test_x[m]: {3 + LINE_EVERY_S:.0f}/40 after {3 + LINE_EVERY_S:.0f} s"
    assert third == "test_x[m]: 33/40 after 33 s"


def test_a_bar_on_a_terminal_that_is_taken_away(shown):
    progress, clock, writer = shown(True)
    clock.now += 10
    progress(5, 20)
    assert "test_x[m]" in writer.text
    assert "5/20" in writer.text
    progress(20, 20)
    assert "20/20" in writer.text
    progress.close()
    assert writer.text.endswith(("\x1b[2K", "\x1b[?25h", "\n"))
    before = writer.text
    progress.close()
    assert writer.text == before


@pytest.mark.parametrize("how", [{"worker": True}, {"reporter": False}], ids=str)
def test_without_a_terminal_of_its_own_it_is_silent(shown, how):
    progress, clock, writer = shown(True, **how)
    clock.now += 100
    progress(1, 2)
    progress.close()
    assert writer.text == ""


def test_the_fixture_is_silent_in_a_quick_case_and_closes(suite):
    suite.standard().write(
        "evals/test_probe.py", "def test_a(progress, record):\n    progress(1, 2)\n    record('loss', 1, n=1)\n"
    )
    assert "1/2" not in suite.run("evals/test_probe.py").stdout.str()
    assert suite.report().measurements
