"""What is seen of a training while it runs, and how it is asked to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from asa.train import Progress


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """A question that is true after Ctrl-C or a termination signal; a second signal interrupts at once."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def show_progress(total: int) -> Iterator[Progress]:
    """A bar with rich on a terminal, where validations stay above it; elsewhere a line for each record."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console()
    if not console.is_terminal:
        yield lambda step, steps, record: typer.echo(line(record)) if record else None
        return
    texts = TextColumn("step"), TextColumn("{task.description}")
    with Bar(texts[0], MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), texts[1], console=console) as bar:
        task = bar.add_task("", total=total)

        def show(step: int, steps: int, record: Mapping[str, Any] | None) -> None:
            bar.update(task, completed=step)
            if record:
                bar.update(task, description=f"loss {_loss(record)}, {record['tokens_per_s']:,.0f} tokens/s")
                if "val_loss" in record:
                    bar.console.print(line(record), highlight=False, markup=False)

        yield show


def line(record: Mapping[str, Any]) -> str:
    """One record for people."""
    parts = [
        f"step {record['step']}",
        f"loss {_loss(record)}",
        f"lr {record['learning_rate']:.2e}",
        f"{record['tokens_per_s']:,.0f} tokens/s",
    ]
    if "val_loss" in record:
        bits = record["val_bits_per_byte"]
        parts.append(f"validation {record['val_loss']:.4f}" + (f" ({bits:.4f} bits per byte)" if bits else ""))
    if record["refused_steps"]:
        parts.append(f"refused {record['refused_steps']}")
    return "  ".join(parts)


def _loss(record: Mapping[str, Any]) -> str:
    return "refused" if record["loss"] is None else f"{record['loss']:.4f}"
