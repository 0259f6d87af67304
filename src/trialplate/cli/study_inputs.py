"""What the commands about activations have in common: which model, which texts, which layers, and how each is said on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trialplate.activations.sites import Point
    from trialplate.models.causal_lm import CausalLM
    from trialplate.tasks.manifest_model import ProbeTask

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
    typer.Option(help="Layers (0 3), depths (25% 50%), * for all, or sites (L3.resid_post); several may follow."),
]
NumDocs = Annotated[
    int,
    typer.Option(help="Documents a task, at most; -1: all. A prompt is one document however often it is asked for."),
]
MaxTokens = Annotated[
    int, typer.Option(min=1, help="Tokens of a document that are read, at most; never more than the model's window.")
]
Dtype = Annotated[str, typer.Option(help="auto (float32), float16, bfloat16 or float32.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")]
Seed = Annotated[int, typer.Option(help="Of samples, permutations and bootstraps.")]
Online = Annotated[bool, typer.Option("--online", help="Allow access to the hub.")]
OutDir = Annotated[Path, typer.Option("--output-dir", "--outdir", help="Folder under which a new folder is made.")]

LISTS = ("--layers", "--task-id", "--kept")
SHIPPED = Path("data/probe_tasks.jsonl")


class InputError(Exception):
    """Options that do not say what to do."""


@dataclass(frozen=True, slots=True)
class TextOptions:
    """The options that choose texts."""

    manifest: Path | None = None
    task_ids: Sequence[str] = ()
    prompt: str | None = None
    dataset: str | None = None
    split: str = "validation"
    num_docs: int = -1
    online: bool = False


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents of every task as token ids, and what a report says of them."""

    documents: Mapping[str, list[list[int]]]
    texts: Mapping[str, list[str]]
    about: Mapping[str, Any]


def joined_lists(arguments: Sequence[str]) -> list[str]:
    """Arguments in which `--layers 25% 50%` has become `--layers 25%,50%`: what follows a list option up to the next option belongs to it."""
    found: list[str] = []
    at = 0
    while at < len(arguments):
        found.append(arguments[at])
        at += 1
        if found[-1] in LISTS:
            end = next((i for i in range(at, len(arguments)) if arguments[i].startswith("-")), len(arguments))
            if end > at:
                found.append(",".join(arguments[at:end]))
            at = end
    return found


def split_list(values: Sequence[str] | None) -> list[str]:
    """The entries of a list option, given several times or with commas."""
    return [part for value in values or () for part in value.replace(",", " ").split()]


@contextmanager
def told() -> Iterator[None]:
    """Errors that a user can do something about become one line and exit status 2."""
    from trialplate.activations.errors import CaptureError, SiteError, StoreError
    from trialplate.checkpoints.errors import CheckpointError
    from trialplate.models.errors import ModelError
    from trialplate.tasks.jsonl import RowError

    try:
        yield
    except KeyError as error:  # an unknown task id: the text is the message
        _refuse(str(error.args[0]), error)
    except (
        InputError,
        SiteError,
        CaptureError,
        StoreError,
        ModelError,
        CheckpointError,
        RowError,
        OSError,
        ValueError,
    ) as error:
        _refuse(str(error), error)


def _refuse(text: str, cause: Exception) -> None:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(2) from cause


def load_model(name: str, device: str, dtype: str, online: bool) -> CausalLM:
    """The model, on one thread where it is the CPU: the numbers are then the same on every machine."""
    import torch

    from trialplate.models.load import load
    from trialplate.models.spec import ModelSpec

    if device == "cpu":
        torch.set_num_threads(1)
    return load(ModelSpec(name, device=device, dtype="float32" if dtype == "auto" else dtype), online=online)


def read_texts(model: CausalLM, options: TextOptions, max_tokens: int) -> Texts:
    """The texts that the options name, tokenised by the model's own tokenizer, each different text once. Raises InputError and those of manifests."""
    if (options.num_docs < 1 and options.num_docs != -1) or max_tokens < 1:
        raise InputError(f"--num-docs is a number of documents, or -1 for all; got {options.num_docs}")
    limit = None if options.num_docs == -1 else options.num_docs
    named = [
        o
        for o, v in (
            ("--prompt", options.prompt),
            ("--dataset", options.dataset),
            ("--probe-manifest", options.manifest),
        )
        if v
    ]
    if len(named) > 1:
        raise InputError(f"texts come from one place, got {' and '.join(named)}")
    if options.task_ids and (options.prompt or options.dataset):
        raise InputError(f"--task-id chooses lines of a manifest; it does not go with {named[0]}")
    found = _ad_hoc(options) if options.prompt or options.dataset else _of_manifest(options)
    found = _readable(model, found) if not options.task_ids else found
    documents, texts, about = {}, {}, {}
    for task in found:
        bound = max_tokens if task.max_tokens is None else min(max_tokens, task.max_tokens)
        read = _read(model, task, limit, bound)
        documents[task.task_id], texts[task.task_id], about[task.task_id] = read
    return Texts(documents, texts, about)


def _read(
    model: CausalLM, task: ProbeTask, limit: int | None, max_tokens: int
) -> tuple[list[list[int]], list[str], dict[str, Any]]:
    from trialplate.tasks.stimuli import stimuli_digest, texts, token_rows

    stimuli = texts(task, model.tokenizer.encode, limit)
    rows = token_rows(stimuli, model.tokenizer.encode_batch, model.tokenizer.eos_id)
    least = task.min_tokens or 1
    kept = [(s, ids[:max_tokens]) for s, ids in zip(stimuli, rows, strict=True) if len(ids) >= least]
    if not kept:
        raise InputError(f"task {task.task_id}: none of its {len(stimuli)} texts has the {least} tokens that count")
    about = {
        **task.metadata(),
        "n_docs": len(kept),
        "too_short": len(stimuli) - len(kept),
        "max_tokens": max_tokens,
        "texts_sha256": stimuli_digest([s for s, _ in kept]),
    }
    return [ids for _, ids in kept], [s.text for s, _ in kept], about


def _readable(model: CausalLM, tasks: Sequence[ProbeTask]) -> list[ProbeTask]:
    """Of tasks that nobody named one by one: those that have texts here. What is left out is said."""
    from trialplate.tasks.stimuli import without_texts

    reasons = {task.task_id: without_texts(task, model.tokenizer.encode) for task in tasks}
    for name, why in reasons.items():
        if why:
            typer.echo(f"note: {name} is left out: {'; '.join(why)}", err=True)
    found = [task for task in tasks if not reasons[task.task_id]]
    if not found:
        raise InputError(f"none of the tasks {', '.join(reasons)} has texts that can be read here")
    return found


def _of_manifest(options: TextOptions) -> list[ProbeTask]:
    from trialplate.tasks.manifest import load_manifest, select

    path = options.manifest or SHIPPED
    if options.manifest is None and not path.is_file():
        raise InputError(
            f"no texts were named and {SHIPPED} is not here; give --probe-manifest FILE, --prompt TEXT or --dataset FILE"
        )
    tasks = load_manifest(path)
    if options.task_ids:
        return select(tasks, options.task_ids)
    if options.manifest is not None:
        return tasks
    return [task for task in tasks if task.task_id.startswith("domain_")]


def _ad_hoc(options: TextOptions) -> list[ProbeTask]:
    from trialplate.tasks.stimuli import prompt_task

    if options.prompt is not None:
        return [prompt_task(options.prompt)]
    return [_dataset_task(options)]


def _dataset_task(options: TextOptions) -> ProbeTask:
    from trialplate.tasks.manifest_model import ProbeTask, Source
    from trialplate.tasks.stimuli import file_task

    name = str(options.dataset)
    if Path(name).is_file():
        return file_task(Path(name))
    if not options.online:
        raise InputError(
            f"--dataset {name}: no such file here; a data set of the hub needs --online and the extra `datasets`"
        )
    source = Source(type="prompt_list", name=name, prompts=_hub_texts(name, options.split))
    return ProbeTask(task_id=Path(name.partition(":")[0]).name, domain="text", source=source, version=2)


def _hub_texts(name: str, split: str) -> tuple[str, ...]:
    """Distinct, not empty texts of a hub data set, `name` or `name:config`."""
    from trialplate.models.hub import transport_errors

    try:
        import datasets
    except ImportError as error:
        raise InputError(f"--dataset {name} needs the data sets library: pip install 'trialplate[datasets]'") from error
    dataset, _, config = name.partition(":")
    try:
        rows = datasets.load_dataset(dataset, config or None, split=split)
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError, *transport_errors()) as error:
        raise InputError(f"--dataset {name}, split {split}: {error}") from error
    if "text" not in rows.column_names:
        raise InputError(f"--dataset {name}: its rows have {', '.join(rows.column_names)}, wanted a column named text")
    found = tuple(dict.fromkeys(text for text in rows["text"] if text.strip()))
    if not found:
        raise InputError(f"--dataset {name}, split {split}: every row is empty")
    return found


def chosen_points(model: CausalLM, layers: Sequence[str] | None, default: str, site: str = "mlp_act") -> list[Point]:
    """The points of --layers; what a name was taken to mean is said."""
    from trialplate.activations.sites import choose

    points = choose(model, split_list(layers) or [default], site)
    for point in points:
        if point.note:
            typer.echo(f"note: {point.note}", err=True)
    return points


def about_run(command: str, model: CausalLM, texts: Texts, seed: int, **more: Any) -> dict[str, Any]:
    """What meta.json says of a study besides its environment: the model by content, the texts by content, the options."""
    return {"command": command, "model": model.identity(), "seed": seed, "tasks": dict(texts.about), **more}


def progress(total: int, what: str) -> Callable[[int], None]:
    """`tell(done)`: a line on the error stream now and then, where somebody is looking."""
    import sys

    step = max(1, total // 10)

    def tell(done: int) -> None:
        if sys.stderr.isatty() and (done % step == 0 or done == total):
            typer.echo(f"{what}: {done}/{total}", err=True)

    return tell
