"""Options that several commands share, said once: a dataclass whose fields are options, taken by a command as one argument.

@dataclass(frozen=True)
class Where:
    folder: Annotated[Path, typer.Option(help="…")] = Path("runs")

@grouped
def command(where: Where, k: Annotated[int, typer.Option()] = 8) -> None: ...       # --folder and --k"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer may register it: every parameter that is a dataclass is replaced by its fields. TypeError for a name that comes twice."""
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            groups[parameter.name] = parameter.annotation
            parameters += _options(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    names = [parameter.name for parameter in parameters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{command.__name__}: the option {twice[0]!r} comes from two places; a group has it already")

    @functools.wraps(command)
    def registered(**given: Any) -> None:
        made = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**made, **given)

    registered.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    registered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return registered


def _options(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(f.name, kind, default=_default(f), annotation=hints[f.name]) for f in fields(group)]


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default
