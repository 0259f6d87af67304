"""The journal keeps every whole line: a torn tail is said, a torn middle is refused, two runs never share one."""

import errno
import os
import subprocess
import sys

import pytest

from trialplate.report import journal
from trialplate.report.journal import Journal, JournalError, read_journal, trim_torn_tail

pytestmark = pytest.mark.fast


@pytest.fixture
def written(make, tmp_path):
    """A folder with the journal of a passing run."""
    target = Journal(tmp_path)
    for event in make.passing():
        target.append(event)
    target.close()
    return tmp_path


def lines(folder):
    return (folder / "journal.ndjson").read_bytes().splitlines(keepends=True)


def test_events_are_read_as_they_were_written(make, written):
    assert read_journal(written) == (make.passing(), False)


def test_one_event_is_one_line_in_the_file_when_append_returns(make, tmp_path):
    target = Journal(tmp_path)
    target.append(make.started())
    target.append(make.finished(reason="two\nlines"))
    assert len(lines(tmp_path)) == 2
    target.close()
    target.close()  # harmless


@pytest.mark.parametrize("cut", [1, 30])
def test_a_torn_tail_is_reported_and_can_be_trimmed(make, written, cut):
    whole = b"".join(lines(written))
    (written / "journal.ndjson").write_bytes(whole[:-cut])
    assert read_journal(written) == (make.passing()[:-1], True)
    assert trim_torn_tail(written)
    assert not trim_torn_tail(written)
    assert read_journal(written) == (make.passing()[:-1], False)


def test_a_torn_middle_is_an_error_with_its_line(written):
    first, second, *rest = lines(written)
    (written / "journal.ndjson").write_bytes(b"".join([first, second[:20] + b"\n", *rest]))
    with pytest.raises(JournalError, match=r"journal.ndjson:2: not an event of this version of trialplate"):
        read_journal(written)


@pytest.mark.parametrize(
    "line", [b'{"event":"future","attempt":1}', b'{"event":"noted","attempt":1,"kind":"error","text":"","x":1}', b""]
)
def test_an_unknown_event_or_key_is_refused(written, line):
    (written / "journal.ndjson").write_bytes(line + b"\n")
    with pytest.raises(JournalError, match=r"journal.ndjson:1"):
        read_journal(written)


def test_no_journal_says_what_to_give(tmp_path):
    with pytest.raises(JournalError, match=r"holds no journal.ndjson; give a folder that `pytest --report DIR` wrote"):
        read_journal(tmp_path)


def test_two_writers_on_one_folder_are_refused(tmp_path):
    first = Journal(tmp_path)
    with pytest.raises(JournalError, match="is being written by another run; wait for it or give another --report"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_dead_writer_leaves_no_lock(tmp_path):
    code = "import os, sys, pathlib; from trialplate.report.journal import Journal; j = Journal(pathlib.Path(sys.argv[1])); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    Journal(tmp_path).close()


def test_a_write_that_fails_half_way_leaves_no_torn_line(make, tmp_path, monkeypatch):
    target = Journal(tmp_path)
    target.append(make.started())
    real, left = os.write, [7, 5]

    def full(fd, data):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: left.pop()])

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        target.append(make.finished())
    monkeypatch.undo()
    assert read_journal(tmp_path) == ([make.started()], False)
    target.append(make.ended())
    assert read_journal(tmp_path) == ([make.started(), make.ended()], False)
    target.close()


def test_a_short_write_is_continued(make, tmp_path, monkeypatch):
    target, real = Journal(tmp_path), os.write
    monkeypatch.setattr(journal.os, "write", lambda fd, data: real(fd, data[:10]))
    target.append(make.finished())
    monkeypatch.undo()
    assert read_journal(tmp_path) == ([make.finished()], False)
    target.close()


def test_lines_reach_the_disk_every_two_seconds(make, tmp_path, monkeypatch):
    now, synced = [100.0], []
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(journal.os, "fsync", synced.append)
    target = Journal(tmp_path)
    for seconds in (1.0, 1.0, 0.5, 2.0):
        now[0] += seconds
        target.append(make.finished())
    assert len(synced) == 2
    target.close()
