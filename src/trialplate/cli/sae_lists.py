"""Options of commands about coders that hold several numbers: read whole, or refused with what is wrong. A list that is given and empty is refused too: it is a
variable of a shell that was never set, and no wish for the default."""

from __future__ import annotations

from collections.abc import Sequence

from trialplate.cli.study_inputs import InputError, split_list


def entries(option: str, given: Sequence[str] | None) -> list[str]:
    """The entries of a list option, [] where it is not given. InputError for one that is given without any."""
    parts = split_list(given)
    if given and not parts:
        raise InputError(f"{option}: nothing is in it; give at least one, or leave the option out")
    return parts


def whole_numbers(option: str, given: Sequence[str] | None, default: Sequence[int]) -> tuple[int, ...]:
    """The numbers of a list option. InputError for what is no number, and for an empty list."""
    parts = entries(option, given)
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise InputError(f"{option}: wanted whole numbers, got {wrong[0]!r}")
    return tuple(int(part) for part in parts) or tuple(default)


def decimal_numbers(option: str, given: Sequence[str] | None, default: Sequence[float]) -> tuple[float, ...]:
    """As `whole_numbers`, with fractions."""
    try:
        return tuple(float(part) for part in entries(option, given)) or tuple(default)
    except ValueError as error:
        raise InputError(f"{option}: wanted numbers, {error}") from error


def different(option: str, numbers: Sequence[int]) -> tuple[int, ...]:
    """The numbers as they are. InputError where one is there twice: one coder cannot count as two."""
    if twice := [str(n) for n in dict.fromkeys(numbers) if list(numbers).count(n) > 1]:
        raise InputError(f"{option}: {', '.join(twice)} is there more than once; one coder cannot count as two")
    return tuple(numbers)
