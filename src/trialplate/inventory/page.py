"""An inventory as a page of Markdown and as a table on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.table import Table
from rich.text import Text

from trialplate.inventory.model import Entry, Inventory, Repeated

HEADER = """# Inventory of {folder}

Made by {command} from the syntax of the files alone: nothing of them was imported or run.

* **purpose**: the docstring of a script or the comment that it begins with, the first heading of a notebook, else the first docstring inside.
* **defines**: classes and functions at the top level. A class is a *module* if it derives from a `Module` (of torch, say), directly or through
  another class of the folder. A notebook beside a script of the same name is its twin; definitions that it shares are named once.
* **metrics**: names in quotes are recorded (`record`, `measure`, `log_metric`, `add_scalar`, `log_metrics`, `wandb.log`); others are called, of
  `trialplate.metrics`, `sklearn.metrics`, `torchmetrics`, `torcheval.metrics`, `evaluate`, and the losses of torch.
* **writes**: the paths of `open` with a mode that writes, `write_text`, `torch.save`, `save_file`, `savefig`, `to_csv`, `numpy.save` and their
  like, and of `%%writefile`. What is known only at run time stands in braces.
* Hidden names, `__pycache__` and virtual environments are left out, links to folders are not followed.
"""


def markdown(inventory: Inventory) -> str:
    """The whole page: what each file holds, classes defined more than once, and what could not be read."""
    lines = [
        HEADER.format(
            folder=_code(inventory.folder), command=_code(f"trialplate inventory {inventory.folder} --markdown")
        ),
        "## Files",
        "",
    ]
    if inventory.entries:
        lines += ["| file | purpose | imports | defines | metrics | writes |", "|---|---|---|---|---|---|"]
        lines += [_row(e) for e in inventory.entries]
    else:
        lines += ["No notebook and no script."]
    lines += ["", "## Classes defined more than once", "", *_repeated(inventory.repeated)]
    lines += ["", "## Not read, or not whole", "", *_problems(inventory.entries)]
    return "\n".join(lines) + "\n"


def table(inventory: Inventory) -> Table:
    """The files as a table for the terminal; classes defined more than once follow in `differences`."""
    found = Table(show_lines=True)
    for name in ("file", "purpose", "imports", "defines", "metrics", "writes"):
        found.add_column(name, overflow="fold", ratio=2 if name in ("purpose", "defines") else 1)
    for e in inventory.entries:
        defines = Text("\n").join([*map(Text, _defines(e)), *(Text(p, style="red") for p in e.problems)])
        packages = ", ".join(dict.fromkeys(i.split(".")[0] or i for i in e.imports))
        found.add_row(
            Text(e.path),
            Text(e.purpose),
            Text(packages),
            defines,
            *(Text("\n".join(x)) for x in (e.metrics, e.artifacts)),
        )
    return found


def differences(inventory: Inventory) -> list[str]:
    """Sentences on classes defined more than once, for the terminal."""
    said = []
    for one in inventory.repeated:
        said.append(
            f"class {one.name} is defined {sum(len(v.places) for v in one.versions)} times, in {_versions(one)}"
        )
        for version in one.versions:
            said.append(f"  {', '.join(version.places)}" + (f", against {version.base}:" if version.base else ""))
            said += [f"    {d}" for d in version.differences]
    return said


def _versions(one: Repeated) -> str:
    n = len(one.versions)
    return "one version" if n == 1 else f"{n} versions"


def _defines(e: Entry, shown: Callable[[str], str] = str) -> list[str]:
    """What a file defines, in words; `shown` writes a name."""
    if e.twin and not e.twin_differs:
        more = ", and ".join([shown(e.twin), *([", ".join(map(shown, e.twin_adds))] if e.twin_adds else [])])
        return [f"the definitions of {more}"]
    kinds = (("modules", e.modules), ("classes", e.classes), ("functions", e.functions))
    said = [f"{what} {', '.join(map(shown, names))}" for what, names in kinds if names]
    if e.twin:
        said.append(f"other than in {shown(e.twin)}, or not here: {', '.join(map(shown, e.twin_differs))}")
    return said


def _row(e: Entry) -> str:
    def codes(names: Sequence[str]) -> str:
        return ", ".join(_code(n) for n in names)

    mark = "⚠ " if e.problems else ""
    cells = (
        mark + _code(e.path),
        _plain(e.purpose),
        codes(e.imports),
        "; ".join(_defines(e, _code)),
        codes(e.metrics),
        codes(e.artifacts),
    )
    return "| " + " | ".join(cells) + " |"


def _repeated(found: Sequence[Repeated]) -> Iterable[str]:
    if not found:
        yield "None."
        return
    yield "| class | where | how it differs from the nearest version before it |"
    yield "|---|---|---|"
    for one in found:
        for n, version in enumerate(one.versions):
            name = f"{_code(one.name)}, {_versions(one)}" if n == 0 else ""
            places = ", ".join(_code(p) for p in version.places)
            changes = "; ".join(_code(d) for d in version.differences)
            said = f"against {_code(version.base)}: {changes}" if version.base else ""
            yield f"| {name} | {places} | {said} |"


def _problems(entries: Sequence[Entry]) -> Iterable[str]:
    broken = [e for e in entries if e.problems]
    if not broken:
        yield "Everything was read."
    for e in broken:
        yield f"* {_code(e.path)}: {'; '.join(map(_plain, e.problems))}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join(text.split())
    for sign in "\\`*_|[]":
        flat = flat.replace(sign, "\\" + sign)
    return flat.replace("<", "&lt;")


def _code(text: str) -> str:
    """A code span that fits into a cell of a table."""
    flat = " ".join(text.replace("`", "'").split()).replace("|", "\\|")
    return f"`{flat}`"
