"""The seal of an archive: a manifest of SHA-256 digests that only grows. It needs no version control, and `sha256sum -c` reads it too.

Every file below the folder belongs to the archive, except the manifest itself, names that begin with a dot, and `__pycache__`."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from trialplate.report.files import write_atomic

MANIFEST = "MANIFEST.sha256"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class SealError(Exception):
    """A folder that cannot be verified or appended to; the message says what is in the way and what to do."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not as sealed: `kind` is changed, missing, unsealed, unreadable, malformed or duplicated, `name` the file or line."""

    kind: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True)
class Seal:
    """What the manifest lists ({name: digest}), the names that are present, and what is wrong."""

    listed: dict[str, str]
    present: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def names(self) -> list[str]:
        """Every file that is listed or present."""
        return sorted({*self.listed, *self.present})

    @property
    def intact(self) -> list[str]:
        """Files that are listed once, present, and as they were sealed."""
        broken = {p.name for p in self.problems}
        return [name for name in self.names if name not in broken]


def verify(folder: Path | str) -> list[Problem]:
    """Everything that is not as sealed; an empty list says that all is. SealError where there is no folder to look at."""
    return list(inspect(folder).problems)


def inspect(folder: Path | str) -> Seal:
    """The seal of a folder beside what is there."""
    folder = _folder(folder)
    listed, problems = _read_manifest(folder / MANIFEST)
    present = _present(folder)
    for name in sorted({*listed, *present}):
        problem = _compare(folder, name, listed.get(name), name in present)
        problems += [problem] if problem else []
    return Seal(listed, tuple(present), tuple(problems))


def append(folder: Path | str) -> list[str]:
    """Seal the files that are not sealed yet, and give their names. A folder without a manifest is sealed for the first time.

    SealError where a sealed file was changed or is missing, the manifest is damaged, or a file cannot be sealed; then nothing is written."""
    folder = _folder(folder)
    seal = inspect(folder)
    is_new = not (folder / MANIFEST).exists()
    blocking = [p for p in seal.problems if p.kind != "unsealed" and not (is_new and p.name == MANIFEST)]
    if blocking:
        found = "; ".join(map(str, blocking[:5])) + (f"; and {len(blocking) - 5} more" if len(blocking) > 5 else "")
        raise SealError(
            f"{folder}: the archive only grows, and it is not as it was sealed: {found}. Nothing was written"
        )
    added = [p.name for p in seal.problems if p.kind == "unsealed"]
    for name in added:
        if "\n" in name or "\\" in name or not _is_text(name):
            raise SealError(f"{folder}: {name!r} cannot be a line of {MANIFEST}; rename the file. Nothing was written")
    if not added:
        return []
    digests = seal.listed | {name: _digest(folder / name) for name in added}
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests)]
    try:
        write_atomic(folder / MANIFEST, "".join(lines).encode())
    except OSError as e:
        raise SealError(f"{folder / MANIFEST} cannot be written: {e.strerror or e}") from e
    return added


def _folder(folder: Path | str) -> Path:
    folder = Path(folder)
    try:
        if not folder.is_dir():
            got = (
                "a file; give the folder that holds it"
                if folder.exists()
                else "not there; give the folder of an archive"
            )
            raise SealError(f"{folder} is {got}")
    except OSError as e:
        raise SealError(f"{folder} cannot be read: {e.strerror or e}") from e
    return folder


def _read_manifest(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """({name: digest}, what is wrong with the lines). A line that is wrong seals nothing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, [Problem("missing", MANIFEST, "is not there, so nothing is sealed; make it with --append")]
    except OSError as e:
        raise SealError(f"{path} cannot be read: {e.strerror or e}") from e
    listed: dict[str, str] = {}
    problems = []
    for n, raw in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        line = raw.decode("utf-8", "backslashreplace")
        found = _LINE.fullmatch(line)
        if not found or not _is_inside(found[2]):
            wanted = "wanted 64 hexadecimal digits, two blanks and the name of a file in this folder"
            problems.append(Problem("malformed", f"{MANIFEST}:{n}", f"{wanted}, got {line[:100]!r}"))
        elif found[2] in listed:
            problems.append(Problem("duplicated", found[2], f"is listed again in line {n} of {MANIFEST}"))
        else:
            listed[found[2]] = found[1]
    return listed, problems


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and not {"", ".", ".."} & set(parts) and name != MANIFEST


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of a file name that are no UTF-8
        return False
    return True


def _present(folder: Path) -> list[str]:
    """Names below the folder, links among them, in order."""

    def refuse(e: OSError) -> None:
        raise SealError(f"{e.filename} cannot be read: {e.strerror or e}") from e

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [f for f in folders if Path(place, f).is_symlink()]
        folders[:] = [f for f in folders if f not in links and not f.startswith(".") and f != "__pycache__"]
        names = (Path(place, f).relative_to(folder).as_posix() for f in (*files, *links) if not f.startswith("."))
        found += [name for name in names if name != MANIFEST]
    return sorted(found)


def _compare(folder: Path, name: str, sealed: str | None, is_present: bool) -> Problem | None:
    if not is_present:
        return Problem("missing", name, "was sealed and is not there; restore it")
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            return Problem("unreadable", name, "is no regular file; an archive holds files only")
        found = _digest(path)
    except OSError as e:
        return Problem("unreadable", name, f"cannot be read: {e.strerror or e}")
    if sealed is None:
        return Problem("unsealed", name, "is not sealed; seal it with --append, or move it away")
    if found != sealed:
        return Problem(
            "changed",
            name,
            f"was changed since it was sealed ({sealed[:12]}, now {found[:12]}); restore it, and append what is new",
        )
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
