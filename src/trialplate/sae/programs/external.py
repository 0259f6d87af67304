"""Runs programs of others on a coder: each as an argument vector without a shell, looked at before it starts, bounded in time, with its own log.

A command that may not run is `skipped`, which is no kind of success: asked to execute, the whole fails where nothing ran, or where a part of what was
asked did not. A program that ends with 0 and leaves nothing behind has failed too: some catch every error and go on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trialplate.sae.errors import StudyError

Status = Literal["planned", "passed", "failed", "timed out", "skipped"]
TIMED_OUT, NOT_RUN = 124, 4
"""Exit statuses: a command that ran past its time, as `timeout` says it; and asked to execute, something did not run."""
_SHELL = "|&;<>$`\n"
_FIND = "import importlib.util as u, json, sys; print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n) is None]))"
_PREFLIGHT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run.

    name    what its log is called; letters, digits and -
    argv    program and arguments
    needs   modules that the interpreter argv[0] must have
    files   files and folders that must be there
    writes  pattern under the working folder; a run that matches nothing with it has failed. "" where nothing is expected"""

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    writes: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command. `returncode` and `seconds` are None for one that was not started; `note` says why not, or what went wrong."""

    name: str
    status: Status
    argv: tuple[str, ...]
    note: str = ""
    returncode: int | None = None
    seconds: float | None = None
    written: tuple[str, ...] = ()

    @property
    def ran(self) -> bool:
        """Whether it was started."""
        return self.seconds is not None


def argv_of(text: str) -> tuple[str, ...]:
    """The argument vector of a command line: words with quotes as a shell has them, or a JSON list of strings, which is taken as it stands.

    StudyError for an empty line, a quote that stays open, and anything that only a shell would understand: | & ; < > $ ` and line breaks."""
    if text.lstrip().startswith("["):
        return _listed(text)
    if found := sorted(set(text) & set(_SHELL)):
        raise StudyError(
            f"no shell reads this command, so {' '.join(map(repr, found))} would mean nothing: {text!r}. "
            'Give one program with its arguments, or a JSON list of them: ["python", "-m", "name"]'
        )
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise StudyError(f"a command that cannot be split into words: {text!r}: {error}") from error
    if not words:
        raise StudyError("an empty command: give a program with its arguments, or leave the option out")
    return tuple(words)


def missing(command: Command, folder: Path) -> list[str]:
    """What a command lacks, in words; empty where it may start. Modules are looked for by its own interpreter, and not imported."""
    program = command.argv[0]
    if shutil.which(program) is None:
        return [f"no program {program}"]
    lacking = [f"no {name}" for name in command.files if not (folder / name).exists()]
    if not command.needs:
        return lacking
    asked = [program, "-c", _FIND, *command.needs]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_PREFLIGHT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [*lacking, f"{program} did not say within {_PREFLIGHT_SECONDS} s which modules it has"]
    try:
        return [*lacking, *(f"no module {name}" for name in json.loads(answer.stdout))]
    except ValueError:
        return [
            *lacking,
            f"{program} is no Python: asked for modules it said {(answer.stderr or answer.stdout)[:200]!r}",
        ]


def run_commands(
    commands: Sequence[Command],
    folder: Path,
    logs: Path,
    *,
    execute: bool,
    timeout: float,
    environment: Mapping[str, str],
) -> list[Done]:
    """Look at every command and, if asked to, run those that lack nothing, one after the other, in `folder`; what each prints goes to `logs/NAME.log`.

    timeout: seconds for each. A command that runs past them is ended with everything that it started. StudyError for no command, or two of one name."""
    names = [command.name for command in commands]
    if not names or len(set(names)) < len(names) or timeout <= 0:
        raise StudyError(f"wanted commands of different names and a positive time, got {names} and {timeout} s")
    done = []
    for command in commands:
        lacking = missing(command, folder)
        if lacking:
            done.append(Done(command.name, "skipped", command.argv, "; ".join(lacking)))
        elif not execute:
            done.append(Done(command.name, "planned", command.argv, "dry run: --execute runs it"))
        else:
            done.append(_run(command, folder, logs, timeout, environment))
    return done


def exit_status(done: Sequence[Done], execute: bool) -> int:
    """The worst return code of the commands; NOT_RUN where all that ran passed and something was skipped; 0 for a dry run."""
    if not execute:
        return 0
    worst = max((_failing(one) for one in done), default=0)
    skipped = any(one.status == "skipped" for one in done)
    return worst or (NOT_RUN if skipped or not done else 0)


def verdict(done: Sequence[Done], execute: bool) -> Status:
    """One word for all: planned for a dry run, failed if any failed, skipped if any did not run, and passed only if all passed."""
    if not execute:
        return "planned"
    if any(one.status in ("failed", "timed out") for one in done):
        return "failed"
    return "passed" if done and all(one.status == "passed" for one in done) else "skipped"


def _failing(one: Done) -> int:
    if one.status == "timed out":
        return TIMED_OUT
    return (one.returncode or 1) if one.status == "failed" else 0


def _run(command: Command, folder: Path, logs: Path, timeout: float, environment: Mapping[str, str]) -> Done:
    before = set(folder.glob(command.writes)) if command.writes else set()
    begin = time.monotonic()
    with (logs / f"{command.name}.log").open("xb") as file:
        child = subprocess.Popen(
            command.argv,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = _waited(child, timeout)
    seconds = round(time.monotonic() - begin, 3)
    made = set(folder.glob(command.writes)) - before if command.writes else set()
    written = tuple(sorted(str(path.relative_to(folder)) for path in made))
    status, note = _judged(command, code, written, timeout)
    return Done(command.name, status, command.argv, note, code, seconds, written)


def _waited(child: subprocess.Popen[bytes], timeout: float) -> int | None:
    """The return code as a shell gives it (128 + signal), None after the time is over; whatever ends the wait, nothing of the child goes on."""
    try:
        code = child.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return code if code >= 0 else 128 - code


def _judged(command: Command, code: int | None, written: Sequence[str], timeout: float) -> tuple[Status, str]:
    if code is None:
        return "timed out", f"ended after {timeout:g} s"
    if code != 0:
        return "failed", f"ended with {code}"
    if command.writes and not written:
        return "failed", f"ended with 0 and wrote nothing that matches {command.writes}; its log says more"
    return "passed", ""


def _listed(text: str) -> tuple[str, ...]:
    try:
        words = json.loads(text)
    except ValueError as error:
        raise StudyError(f"a command that begins with [ is a JSON list of strings, got {text!r}: {error}") from error
    if not words or not all(isinstance(word, str) and word for word in words):
        raise StudyError(f"a command as a JSON list holds words that are not empty, got {text!r}")
    return tuple(words)
