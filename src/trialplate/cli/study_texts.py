"""The texts of a study: which ones the options name, as token ids of the model's own tokenizer, and how many bytes each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from trialplate.models.causal_lm import CausalLM
    from trialplate.models.tokenizers import TokenizerAdapter
    from trialplate.tasks.manifest_model import ProbeTask
    from trialplate.tasks.stimuli import Stimulus

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
    """Documents of every task as token ids, their UTF-8 bytes, and what a report says of them.

    A separator between the parts of a text counts as the one byte of the line break that it stands for; a beginning token as none."""

    documents: Mapping[str, list[list[int]]]
    n_bytes: Mapping[str, list[int]]
    about: Mapping[str, Any]


def read_texts(model: CausalLM, options: TextOptions, max_tokens: int, *, in_parts: bool = False) -> Texts:
    """The texts that the options name, each different text once. Raises InputError and the errors of manifests.

    They are cut to `max_tokens`, and to the model's window unless they will be read `in_parts`. Where the model's own files ask for a beginning token, every text begins with it, as the model has always seen texts."""
    if (options.num_docs < 1 and options.num_docs != -1) or max_tokens < 1:
        raise InputError(f"--num-docs is a number of documents, or -1 for all; got {options.num_docs}")
    _refuse_two_sources(options)
    found = _ad_hoc(options) if options.prompt is not None or options.dataset else _of_manifest(options)
    found = found if options.task_ids else _readable(model, found)
    most = max_tokens if in_parts else min(max_tokens, model.max_length)
    limit = None if options.num_docs == -1 else options.num_docs
    read = {}
    for task in found:
        bound = most if task.max_tokens is None else min(most, task.max_tokens)
        read[task.task_id] = _read(model, task, limit, bound)
    n_texts = sum(len(parts[0]) for parts in read.values())
    typer.echo(f"reading {n_texts:,} texts of {len(read)} tasks with {model.label}", err=True)
    return Texts(*({name: parts[i] for name, parts in read.items()} for i in range(3)))  # type: ignore[arg-type]


def _read(
    model: CausalLM, task: ProbeTask, limit: int | None, max_tokens: int
) -> tuple[list[list[int]], list[int], dict[str, Any]]:
    from trialplate.tasks.stimuli import stimuli_digest, texts, token_rows

    tokenizer = model.tokenizer
    lead = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    stimuli = texts(task, tokenizer.encode, limit)
    rows = token_rows(stimuli, tokenizer.encode_batch, tokenizer.eos_id)
    least = task.min_tokens or 1
    kept = [(s, ids, [*lead, *ids][:max_tokens]) for s, ids in zip(stimuli, rows, strict=True) if len(ids) >= least]
    if not kept:
        raise InputError(f"task {task.task_id}: none of its {len(stimuli)} texts has the {least} tokens that count")
    n_bytes = [
        len(s.text.encode()) if len(cut) == len(lead) + len(ids) else _bytes_of_cut(s, len(cut) - len(lead), tokenizer)
        for s, ids, cut in kept
    ]
    about = {
        **task.metadata(),
        "n_docs": len(kept),
        "too_short": len(stimuli) - len(kept),
        "cut": sum(len(cut) < len(lead) + len(ids) for _, ids, cut in kept),
        "max_tokens": max_tokens,
        "beginning_token": lead[0] if lead else None,
        "texts_sha256": stimuli_digest([s for s, _, _ in kept]),
    }
    return [cut for _, _, cut in kept], n_bytes, about


def _bytes_of_cut(stimulus: Stimulus, n_tokens: int, tokenizer: TokenizerAdapter) -> int:
    """UTF-8 bytes of the first tokens of a text; a cut inside a character counts it whole."""
    parts = stimulus.parts if tokenizer.eos_id is not None else (stimulus.text,)
    n_bytes, left = 0, n_tokens
    for number, part in enumerate(parts):
        if number and left > 0:
            n_bytes, left = n_bytes + 1, left - 1
        if left <= 0:
            break
        ends = [end for _, end in tokenizer.offsets(part)][:left]
        n_bytes += len(part[: ends[-1]].encode()) if ends else 0
        left -= len(ends)
    return n_bytes


def _refuse_two_sources(options: TextOptions) -> None:
    given = {"--prompt": options.prompt, "--dataset": options.dataset, "--probe-manifest": options.manifest}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"texts come from one place, got {' and '.join(named)}")
    if options.task_ids and named and named[0] != "--probe-manifest":
        raise InputError(f"--task-id chooses lines of a manifest; it does not go with {named[0]}")


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
        try:
            return select(tasks, options.task_ids)
        except KeyError as error:  # its text is the message
            raise InputError(str(error.args[0])) from error
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
