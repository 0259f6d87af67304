"""The journal: one JSON line an event, appended and flushed as it happens, so that a killed run keeps every finished case.

A line is whole or it is the torn last one. Reading reports a torn tail instead of hiding it; a torn line anywhere else is an error.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import msgspec

from trialplate.report.model import (
    Case,
    Code,
    Dataset,
    Environment,
    Measurement,
    NotCollected,
    Policy,
    Run,
    Sample,
    Setting,
    Subject,
    Verdict,
)

JOURNAL = "journal.ndjson"
FSYNC_EVERY_S = 2.0


class JournalError(Exception):
    """The journal cannot be read or written; the text names the file, the line and what to do."""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="event"):
    """Base of the events; `attempt` counts a run and its resumptions from 1."""

    attempt: int


class Started(Event, frozen=True, kw_only=True, tag="started"):
    run: Run
    code: Code
    environment: Environment
    config: dict[str, Setting]


class Selected(Event, frozen=True, kw_only=True, tag="selected"):
    """The cases this attempt means to run, and of which subjects. Every one of them must end in a Finished event.

    `gates` are those of the cases that only judge, `gone` are cases of an earlier attempt that the evals no longer have: what they measured does not count any more.
    """

    cases: list[str]
    filters: list[str] = []
    not_collected: list[NotCollected] = []
    subjects: list[str] = []
    gates: list[str] = []
    gone: list[str] = []


class Finished(Event, frozen=True, kw_only=True, tag="finished"):
    """One case, with everything it recorded: whole or not at all."""

    case: Case
    measurements: list[Measurement] = []
    samples: list[Sample] = []
    data: list[Dataset] = []
    subject: Subject | None = None


class Carried(Event, frozen=True, kw_only=True, tag="carried"):
    """A case taken over from an earlier report that is only judged now."""

    case: Case
    measurements: list[Measurement] = []
    data: list[Dataset] = []
    subject: Subject | None = None


class Judged(Event, frozen=True, kw_only=True, tag="judged"):
    policies: list[Policy]
    verdicts: list[Verdict]


class Noted(Event, frozen=True, kw_only=True, tag="noted"):
    """Something a reader must know: degraded (not as asked for) or an error."""

    kind: str
    text: str


class Ended(Event, frozen=True, kw_only=True, tag="ended"):
    """The run itself says that it ended, when, and with which exit status."""

    state: str
    finished_at: str
    exit_status: int
    judged: bool


AnyEvent = Started | Selected | Finished | Carried | Judged | Noted | Ended
_decoder = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


class Journal:
    """Append-only writer. Holds an advisory lock, so that two runs cannot continue one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(self._fd)
            raise JournalError(
                f"{self.path} is being written by another run; wait for it or give another --report"
            ) from e
        self._synced_at = time.monotonic()

    def append(self, event: AnyEvent) -> None:
        """Write one line, whole or not at all; it is in the kernel's hands when this returns, and on the disk within two seconds of the
        next event. Raises OSError."""
        line = _encoder.encode(event) + b"\n"
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        finally:
            if 0 < written < len(line):  # a full disk: taking the torn part back needs no space
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
        if time.monotonic() - self._synced_at >= FSYNC_EVERY_S:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Force what was written onto the disk."""
        os.fsync(self._fd)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Checkpoint, then release the lock. Closing twice is harmless."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def trim_torn_tail(folder: Path) -> bool:
    """Cut a half-written last line off before a journal is continued. Returns whether there was one."""
    path = folder / JOURNAL
    data = path.read_bytes()
    if not data or data.endswith(b"\n"):
        return False
    with path.open("r+b") as f:
        f.truncate(data.rfind(b"\n") + 1)
        os.fsync(f.fileno())
    return True


def read_journal(folder: Path) -> tuple[list[AnyEvent], bool]:
    """All events of a run folder, and whether the last line was torn. Raises JournalError naming file and line."""
    path = folder / JOURNAL
    if not path.is_file():
        raise JournalError(f"{folder} holds no {JOURNAL}; give a folder that `pytest --report DIR` wrote")
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop() != b""
    events: list[AnyEvent] = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(_decoder.decode(line))
        except msgspec.MsgspecError as e:
            raise JournalError(f"{path}:{number}: not an event of this version of trialplate: {e}") from e
    return events, torn
