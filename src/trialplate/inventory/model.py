"""What is known of a folder of notebooks and scripts: plain data, written as JSON as it stands."""

from __future__ import annotations

import msgspec


class Method(msgspec.Struct, frozen=True):
    """A function of a class body: its header as written out anew, and its lines without comments and layout."""

    name: str
    header: str
    lines: tuple[str, ...]


class ClassFound(msgspec.Struct, frozen=True):
    """One definition of a class: `name` with the classes around it, where it stands (line, and cell of a notebook), and what it is made of."""

    name: str
    path: str
    line: int
    cell: int | None
    bases: tuple[str, ...]
    decorators: tuple[str, ...]
    methods: tuple[Method, ...]
    attributes: tuple[Method, ...]
    is_module: bool = False

    @property
    def where(self) -> str:
        """path:line, or path cell n:line."""
        return f"{self.path}:{self.line}" if self.cell is None else f"{self.path} cell {self.cell}:{self.line}"


class Entry(msgspec.Struct, frozen=True):
    """One notebook or script. `problems` says what could not be read; the other fields then hold what could.

    `twin` is the script of the same name beside a notebook; `twin_differs` names its definitions that the notebook has otherwise or lacks, and
    `twin_adds` those that only the notebook has."""

    path: str
    kind: str
    purpose: str = ""
    imports: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    twin: str = ""
    twin_differs: tuple[str, ...] = ()
    twin_adds: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Version(msgspec.Struct, frozen=True):
    """Equal definitions of one class, and how they differ from the version before them that is nearest, the one at the place `base`.

    The first version has neither."""

    places: tuple[str, ...]
    base: str = ""
    differences: tuple[str, ...] = ()


class Repeated(msgspec.Struct, frozen=True):
    """A class that is defined more than once."""

    name: str
    versions: tuple[Version, ...]


class Inventory(msgspec.Struct, frozen=True):
    """Everything that a scan found, in the order of paths and names."""

    folder: str
    entries: tuple[Entry, ...]
    repeated: tuple[Repeated, ...]
    schema: int = 1
