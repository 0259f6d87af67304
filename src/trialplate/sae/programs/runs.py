"""The folder of one study: `<root>/<UTC time>-<random>-<role>/`, which appears whole, with a manifest, and with an entry in the root's EXPERIMENT_LOG.md.

<role>.json     the result (see `results`)          summary.md      the same for reading
config.json     what was asked                      manifest.json   command, steps with return codes, times, sha256 of every file
logs/           what each step printed              ...             whatever else the study keeps (checkpoints, tables)"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trialplate.activations.artifacts import environment
from trialplate.report.files import sync_folder
from trialplate.report.source_digest import package_digest
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.results import (
    MANIFEST,
    MANIFEST_SCHEMA,
    ROLES,
    SCHEMA,
    config_hash,
    file_digest,
    json_bytes,
    plain,
    read_result,
)

__all__ = ["LOG", "StudyRun", "read_result", "study_run"]

LOG = "EXPERIMENT_LOG.md"
_OURS = {MANIFEST, "config.json", "summary.md"}


class StudyRun:
    """A run in the making. `path` is where files go now, `final` the name that the folder takes at the end."""

    def __init__(self, path: Path, final: Path, role: str, command: Sequence[str], config: Any) -> None:
        self.path, self.final, self.role = path, final, role
        self.command, self.config = list(command), plain(config)
        self.config_hash = config_hash(self.config)
        self.started = datetime.now(UTC)
        self._steps: list[dict[str, Any]] = []
        self._write("config.json", json_bytes(self.config))

    def result(self, content: Mapping[str, Any]) -> Path:
        """Write `<role>.json`. `content` is what a program returned: its entry "subject" binds the file to coders and rows by their digests
        and moves up, the rest is the result. StudyError without a subject, and for numbers that are not finite."""
        if not content.get("subject"):
            raise StudyError(
                f"a result of {self.role} says by digest of which coders and rows it is: give it a 'subject'"
            )
        about = {
            "schema": SCHEMA,
            "role": self.role,
            "run": self.final.name,
            "created": _stamp(datetime.now(UTC)),
            "subject": content["subject"],
            "config": self.config,
            "config_hash": self.config_hash,
            "result": {key: value for key, value in content.items() if key != "subject"},
        }
        return self._write(f"{self.role}.json", json_bytes(about))

    def summary(self, markdown: str) -> Path:
        """Write summary.md."""
        return self._write("summary.md", (markdown.rstrip() + "\n").encode())

    def step(self, name: str, argv: Sequence[str], returncode: int, log: str, seconds: float | None = None) -> Path:
        """Note a command that was run, with what it printed; returns the place of the log. A return code other than 0 stays visible: the run
        is kept, and `read_result` refuses it."""
        number = len(self._steps) + 1
        place = f"logs/{number:02}-{re.sub(r'[^0-9A-Za-z._-]+', '-', name).strip('-.') or 'step'}.log"
        (self.path / "logs").mkdir(exist_ok=True)
        path = self._write(place, log.encode("utf-8", "backslashreplace"))
        step = {"name": name, "argv": list(argv), "returncode": returncode, "log": place, "seconds": seconds}
        self._steps.append(plain(step))
        return path

    def file(self, name: str) -> Path:
        """The place of a further file, its folders made. StudyError for a name that leads out of the run or that the run keeps for itself."""
        place = self.path / name
        if not place.resolve().is_relative_to(self.path.resolve()) or name in _OURS | {f"{self.role}.json"}:
            raise StudyError(f"{name!r} cannot be a file of a run: wanted a relative name that is not taken")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    @property
    def is_empty(self) -> bool:
        """Whether nothing but the configuration was written."""
        return not any(path.is_file() and path.name != "config.json" for path in self.path.rglob("*"))

    def close(self, status: str) -> dict[str, Any]:
        """Write the manifest; returns it. A finished run has a result and a summary, otherwise StudyError."""
        if status == "finished":
            for name in (f"{self.role}.json", "summary.md"):
                if not (self.path / name).is_file():
                    raise StudyError(f"a finished study of {self.role} has a {name}, and this one wrote none")
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        ended = datetime.now(UTC)
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "run": self.final.name,
            "role": self.role,
            "status": status,
            "command": self.command,
            "config_hash": self.config_hash,
            "code_sha256": package_digest(),
            "started": _stamp(self.started),
            "finished": _stamp(ended),
            "seconds": (ended - self.started).total_seconds(),
            "steps": self._steps,
            "files": {
                path.relative_to(self.path).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
                for path in files
            },
            "environment": environment(),
        }
        self._write(MANIFEST, json_bytes(manifest))
        return manifest

    def _write(self, name: str, data: bytes) -> Path:
        """A new file, on the disk when this returns; FileExistsError where it is there already."""
        path = self.path / name
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path


@contextmanager
def study_run(root: Path, role: str, command: Sequence[str], config: Any) -> Iterator[StudyRun]:
    """A new folder under `root` that takes its name when the block ends; then the entry in EXPERIMENT_LOG.md is appended.

    role: one of `results.ROLES`. command: as typed, paths and devices included. config: plain data or a dataclass without paths; its hash
    names what was asked. A block that raises leaves nothing if it had written nothing, otherwise the folder `<name>-failed`, whose manifest
    says so and which `read_result` refuses. StudyError where no folder can be made."""
    if role not in ROLES:
        raise StudyError(f"there is no role {role!r}; roles are {', '.join(ROLES)}")
    final = root / f"{_stamp(datetime.now(UTC))}-{secrets.token_hex(3)}-{role}"
    partial = root / f".{final.name}.partial"
    try:
        partial.mkdir(parents=True)  # exclusive: two runs of one second and one draw would meet here
    except OSError as error:
        raise StudyError(
            f"no folder can be made under {root}: {error.strerror or error}. Choose another output folder"
        ) from error
    try:
        run = StudyRun(partial, final, role, command, config)
        manifest = None
        try:
            yield run
            manifest = run.close("finished")
        finally:
            if manifest is None and not run.is_empty:
                _publish(run, run.close("failed"), final.with_name(f"{final.name}-failed"))
        _publish(run, manifest, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(run: StudyRun, manifest: Mapping[str, Any], place: Path) -> None:
    digest = file_digest(run.path / MANIFEST)
    place.mkdir()  # exclusive; the rename then takes the place of this empty folder in one step
    run.path.replace(place)
    sync_folder(place.parent)
    _log(place.parent / LOG, place.name, manifest, digest)


def _log(path: Path, folder: str, manifest: Mapping[str, Any], digest: str) -> None:
    """Append an entry by one write, so that those of studies that end together do not mix."""
    files: Mapping[str, Mapping[str, Any]] = manifest["files"]
    shown = [name for name in files if "/" not in name]  # logs and coders stand in the manifest
    codes = [f"{step['name']} {step['returncode']}" for step in manifest["steps"]]
    lines = [
        f"\n## {folder}\n",
        f"- status: {manifest['status']}, {manifest['started']} to {manifest['finished']}",
        f"- command: `{' '.join(shlex.join(manifest['command']).split())}`",
        f"- config: {manifest['config_hash']}",
        *([f"- steps: {', '.join(codes)}"] if codes else []),
        f"- {MANIFEST}: {digest}",
        *(f"- {name}: {files[name]['sha256']}" for name in shown),
    ]
    entry = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        written = os.write(fd, entry)
        os.fsync(fd)
    finally:
        os.close(fd)
    if written != len(entry):
        raise StudyError(f"{path} took {written} of {len(entry)} bytes of the entry of {folder}: is the disk full?")


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z"
