"""What the commands about activations have in common: which model, which layers, how each is said on the command line, and what meta.json says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli.study_texts import InputError, TextOptions, Texts, read_texts

if TYPE_CHECKING:
    from trialplate.activations.collectors.moments import Positions
    from trialplate.activations.sites import Point
    from trialplate.models.causal_lm import CausalLM

__all__ = ["InputError", "TextOptions", "Texts", "read_texts"]

Model = Annotated[
    str, typer.Option(help="An embedded name, a folder, a checkpoint file, a catalogue name or a hub id.")
]
Manifest = Annotated[
    Path | None, typer.Option(help="A probe manifest (JSON Lines). Without any text option: data/probe_tasks.jsonl.")
]
TaskIds = Annotated[
    list[str] | None,
    typer.Option("--task-id", help="Tasks of the manifest; several may follow. Default: its domain_* tasks."),
]
Prompt = Annotated[str | None, typer.Option(help="One text instead of a manifest.")]
Dataset = Annotated[
    str | None,
    typer.Option(help="A text file, one document a paragraph; or a data set of the hub, which needs --online."),
]
Split = Annotated[str, typer.Option(help="Split of a hub data set.")]
Layers = Annotated[
    list[str] | None,
    typer.Option(help="Layers (0 3), depths (25% 50%), all, or sites (L3.resid_post); several may follow."),
]
NumDocs = Annotated[
    int,
    typer.Option(help="Documents a task, at most; -1: all. A prompt is one document however often it is asked for."),
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Tokens of a document that are read, at most.")]
Dtype = Annotated[str, typer.Option(help="auto (float32), float16, bfloat16 or float32.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")]
Threshold = Annotated[float, typer.Option(help="A unit fires on a token where its activation is above this.")]
Seed = Annotated[int, typer.Option(min=0, help="Of samples, permutations and bootstraps.")]
Online = Annotated[bool, typer.Option("--online", help="Allow access to the hub.")]
OutDir = Annotated[Path, typer.Option("--output-dir", "--outdir", help="Folder under which a new folder is made.")]
Plot = Annotated[bool, typer.Option("--plot/--no-plot", help="Draw the tables into figures/.")]

POSITIONS: tuple[Positions, ...] = ("all", "no_first")
LISTS = (
    "--layers", "--task-id", "--kept", "--rule", "--seeds", "--confirm-seeds", "--architectures", "--token-budgets", "--hook-layers",
    "--d-sae-values", "--k-values", "--l0-targets", "--lambdas", "--prefixes", "--ks", "--benchmarks",
)  # fmt: skip
PATHS = ("--checkpoint", "--probe")
"""List options whose values may hold commas: each value is given an option of its own."""


def joined_lists(arguments: Sequence[str]) -> list[str]:
    """Arguments in which `--layers 25% 50%` has become `--layers 25%,50%`, and `--checkpoint a b` `--checkpoint a --checkpoint b`: what follows a list
    option up to the next option belongs to it."""
    found: list[str] = []
    at = 0
    while at < len(arguments):
        option = arguments[at]
        found.append(option)
        at += 1
        if option in LISTS + PATHS:
            end = next((i for i in range(at, len(arguments)) if arguments[i].startswith("-")), len(arguments))
            values = arguments[at:end]
            if option in PATHS:
                found += [word for value in values for word in (option, value)][1:]
            elif values:
                found.append(",".join(values))
            at = end
    return found


def split_list(values: Sequence[str] | None) -> list[str]:
    """The entries of a list option, given several times or with commas."""
    return [part for value in values or () for part in value.replace(",", " ").split()]


@contextmanager
def told() -> Iterator[None]:
    """Errors that a user can do something about become one line and exit status 2."""
    from trialplate.activations.errors import CaptureError, SiteError, StoreError
    from trialplate.activations.kernels import KernelError
    from trialplate.checkpoints.errors import CheckpointError
    from trialplate.models.errors import ModelError
    from trialplate.tasks.jsonl import RowError

    known = (InputError, SiteError, CaptureError, StoreError, KernelError, ModelError, CheckpointError, RowError)
    try:
        yield
    except (*known, OSError, ValueError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """One thread of torch where the device is the CPU: sums then do not depend on how many a machine has."""
    import torch

    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_model(name: str, device: str, dtype: str, online: bool) -> CausalLM:
    """The model by its name. Raises ModelError, CheckpointError or ValueError."""
    from trialplate.models.load import load
    from trialplate.models.spec import ModelSpec

    return load(ModelSpec(name, device=device, dtype="float32" if dtype == "auto" else dtype), online=online)


def short_name(model: CausalLM) -> str:
    """The model's label without the folders or the owner before it: what files and pictures are named after."""
    return PurePath(model.spec.name).name + model.label.removeprefix(model.spec.name)


def chosen_points(model: CausalLM, layers: Sequence[str] | None, default: str, site: str = "mlp_act") -> list[Point]:
    """The points of --layers; what a name was taken to mean is said."""
    from trialplate.activations.errors import SiteError
    from trialplate.activations.sites import choose

    names = ["*" if name == "all" else name for name in split_list(layers) or [default]]
    try:
        points = choose(model, names, site)
    except SiteError as error:
        if len(names) > 1 and all(Path(name).exists() for name in names):
            raise InputError(
                f"--layers: {names[0]}, {names[1]} … are files here, which the shell put in the place of *; say all"
            ) from error
        raise
    for point in points:
        if point.note:
            typer.echo(f"note: {point.note}", err=True)
    return points


def separators(model: CausalLM) -> tuple[int, ...]:
    """Ids that stand between texts or parts of a text: they are read and not counted, for they are no text."""
    return () if model.tokenizer.eos_id is None else (model.tokenizer.eos_id,)


def positions_of(model: CausalLM, texts: Texts) -> dict[str, tuple[Positions, ...]]:
    """For every task what can be measured of it: all tokens, and, where that leaves two, all but the first of each text.

    InputError for a task of fewer than two tokens: of one, nothing varies."""
    skip, found = separators(model), {}
    for task, rows in texts.documents.items():
        counted = [[token not in skip for token in ids] for ids in rows]
        n_all, n_later = sum(map(sum, counted)), sum(sum(row[1:]) for row in counted)
        if n_all < 2:
            raise InputError(
                f"task {task} has {n_all} token that counts, and of fewer than 2 nothing varies; give it more text"
            )
        found[task] = POSITIONS if n_later > 1 else POSITIONS[:1]
    return found


def about_run(command: str, model: CausalLM, texts: Texts, seed: int, **more: Any) -> dict[str, Any]:
    """What meta.json says of a study besides its environment: the model by content, the texts by content, the options."""
    skip = separators(model)
    n_skipped = sum(token in skip for rows in texts.documents.values() for ids in rows for token in ids)
    return {
        "command": command,
        "model": short_name(model),
        "identity": model.identity(),
        "seed": seed,
        "tasks": dict(texts.about),
        "separators": {"ids": list(skip), "in_texts": n_skipped, "counted": False},
        **more,
    }


def progress(what: str, total: int | None = None) -> Callable[[int], None]:
    """`tell(done)`: every few seconds a line on the error stream, where somebody is looking."""
    import sys
    import time

    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if sys.stderr.isatty() and time.monotonic() - last > 5:
            last = time.monotonic()
            typer.echo(f"{what}: {done}" + ("" if total is None else f" of {total}"), err=True)

    return tell
