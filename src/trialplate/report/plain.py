"""Plain data: what a case hands over must survive a process boundary, JSON and a reader. Everything is coerced or refused here, by name.

A numpy or torch scalar on a test report crashes a distributed run, NaN passes comparisons that are written the wrong way round, and a lone
surrogate cannot be written as UTF-8: all three are settled at the moment of recording, where the eval that did it can be named.
"""

from __future__ import annotations

import math
from typing import Any

_LARGEST = 2**63 - 1
"""JSON readers of other languages hold no larger whole number."""


class RecordError(ValueError):
    """A measurement that cannot be recorded; the text says what was wanted and what was got."""


def printable(text: object) -> str:
    """Text that UTF-8 can hold: lone surrogates (from file names, from failure messages) are written as escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def number(metric: str, what: str, x: Any) -> float:
    """A finite float. Text is refused even where it reads like a number."""
    try:
        if isinstance(x, str | bytes):
            raise TypeError("text")
        found = float(x)
    except (TypeError, ValueError, RuntimeError, OverflowError) as e:  # RuntimeError: a tensor with several elements
        raise RecordError(f"{metric}: {what} must be one number, got {_shown(x)}") from e
    if not math.isfinite(found):
        raise RecordError(
            f"{metric}: {what} is {found}; only finite numbers are recorded. Assert the cause first, or leave it unrecorded: "
            f"a gate then says MISSING"
        )
    return found


def count(metric: str, n: Any, what: str = "n") -> int:
    """A whole number of observations, at least 1."""
    if n is None:
        raise RecordError(f"{metric}: say how many observations it rests on: record(..., n=...)")
    found = number(metric, what, n)
    if not found.is_integer():
        raise RecordError(f"{metric}: {what} must be a whole number of observations, got {found:g}")
    if found < 1:
        raise RecordError(f"{metric}: {what} must be at least 1, got {found:.0f}; nothing was observed")
    return int(found)


def stderr(metric: str, x: Any) -> float | None:
    """A standard error, not negative; None where there is none."""
    if x is None:
        return None
    found = number(metric, "stderr", x)
    if found < 0:
        raise RecordError(f"{metric}: stderr must not be negative, got {found:g}")
    return found


def level(metric: str, x: Any) -> float:
    """A confidence level inside (0, 1)."""
    found = number(metric, "level", x)
    if not 0 < found < 1:
        raise RecordError(f"{metric}: level must lie inside (0, 1), such as 0.95, got {found:g}")
    return found


def interval(metric: str, ci: Any) -> tuple[float, float] | None:
    """(low, high); None where there is none."""
    if ci is None:
        return None
    try:
        low, high = ci
    except (TypeError, ValueError) as e:
        raise RecordError(f"{metric}: ci must be a pair (low, high), got {_shown(ci)}") from e
    low, high = number(metric, "ci", low), number(metric, "ci", high)
    if not low <= high:
        raise RecordError(f"{metric}: ci must be (low, high), got ({low:g}, {high:g})")
    return (low, high)


def text(what: str, x: Any) -> str:
    """Exactly a str: a subclass (numpy's, an enum's) does not cross a process boundary."""
    if not isinstance(x, str):
        raise RecordError(f"{what} must be text, got {_shown(x)}")
    return printable(x.value if hasattr(x, "value") else x)


def scalar(what: str, x: Any) -> str | int | float | bool:
    """A str, bool, int or finite float of exactly that type."""
    if hasattr(x, "item") and not isinstance(x, str | bool | int):  # a numpy or torch scalar
        x = x.item()
    if isinstance(x, str):
        return text(what, x)
    if isinstance(x, bool):
        return x
    if isinstance(x, int) and abs(x) <= _LARGEST:
        return int(x)
    if isinstance(x, float) and math.isfinite(x):
        return float(x)
    raise RecordError(f"{what} must be a string, a boolean or a finite number of 64 bits, got {_shown(x)}")


def _shown(x: Any) -> str:
    return f"{type(x).__name__} {printable(x)[:60]!r}"
