"""What a model reads while its activations are measured: the texts of any manifest line, each different text once.

    texts    of a scored line: prompt and answer of its items, whether they stand in it or are generated;
             of a stimulus: its prompts, its documents, or what its generator makes
    weight   how often the line asks for a text (`repeat`, or equal entries); copies carry no information, so they never become samples
    parts    what a text is joined from: `token_rows` puts the end-of-text token between them, `text` a line break

`min_tokens` and `max_tokens` of the task are for whoever tokenises."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

from trialplate.tasks.generators import generate, generator_of, unmet_needs
from trialplate.tasks.items import Encode, Item
from trialplate.tasks.manifest_model import ProbeTask, Source, SourceAbsent
from trialplate.tasks.text_files import Cut

EncodeBatch = Callable[[list[str]], Sequence[Sequence[int]]]

_NOT_IN_IDS = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True, slots=True)
class Stimulus:
    """One text to read.

    id       ``task/`` and twelve hexadecimal digits of a hash of the parts: stable across runs and machines
    parts    the documents of the text, in order; one for all but generated texts
    domain   of the task;   group: of the item (template or cluster), "" for other texts
    weight   how often the task asks for the text"""

    id: str
    parts: tuple[str, ...]
    domain: str
    group: str = ""
    weight: int = 1

    @property
    def text(self) -> str:
        """The parts, each beginning a line."""
        return "\n".join(self.parts)


def texts(task: ProbeTask, encode: Encode, n: int | None = None, *, seed: int | None = None) -> list[Stimulus]:
    """The different texts of a task, in order.

    n: at most so many; a generator of texts, which has no end of its own, makes exactly n. None: all, or the line's `num_docs`.
    seed: another sample of the same kind. Generators draw with it instead of the line's seed; of texts that exist, it chooses n.
    ValueError for n < 1, an empty text, an unknown generator, and what `without_texts` foretells; SourceAbsent where the text lies
    elsewhere."""
    if n is not None and n < 1:
        raise ValueError(f"task {task.task_id!r}: asked for n = {n} texts, n must be at least 1 (or None for all)")
    if not _is_generated(task):
        return _sample(_merged(task, _written(task)), n, task, seed)
    if reasons := without_texts(task, encode):
        raise ValueError(
            f"task {task.task_id!r} gives no texts: {'; '.join(reasons)}; leave it out by naming other tasks"
        )
    return _merged(task, _generated(task, encode, n, seed))


def without_texts(task: ProbeTask, encode: Encode) -> list[str]:
    """Reasons why a task has nothing to read for this tokenizer and on this machine; empty when `texts` can give it.

    It makes token sequences, the tokenizer does not meet its needs, or its text lies elsewhere. ValueError for an unknown generator."""
    if not _is_generated(task):
        try:
            list(_written(task))
        except SourceAbsent as cause:
            return [str(cause)]
        return []
    generator = generator_of(task)
    if generator.make is None and generator.texts is None:
        return [
            "its generator makes sequences of random tokens, which are no text (see trialplate.tasks.probes.induction)"
        ]
    return unmet_needs(task, encode)


def token_rows(stimuli: Sequence[Stimulus], encode_batch: EncodeBatch, end_id: int | None) -> list[list[int]]:
    """Token ids of each text, without beginning token.

    Between parts stands the end-of-text token `end_id`, as between documents in training. Without one (None): a line break, which costs
    a model that never saw documents joined so (twice to four times the loss in the embedded ones)."""
    if end_id is None:
        return [list(ids) for ids in encode_batch([stimulus.text for stimulus in stimuli])]
    encoded = iter(encode_batch([part for stimulus in stimuli for part in stimulus.parts]))
    return [_joined(islice(encoded, len(stimulus.parts)), end_id) for stimulus in stimuli]


def stimuli_digest(stimuli: Iterable[Stimulus]) -> str:
    """SHA-256 (hexadecimal) of texts in their order with their weights: two runs that share it read the same."""
    digest = hashlib.sha256()
    for stimulus in stimuli:
        digest.update(_canonical([stimulus.parts, stimulus.weight]) + b"\n")
    return digest.hexdigest()


def prompt_task(text: str, task_id: str = "prompt") -> ProbeTask:
    """A task of one text that stands in no manifest. ValueError for an empty one."""
    if not text.strip():
        raise ValueError(f"wanted a text to read, got {text!r}: there are no activations without tokens")
    return ProbeTask(task_id, domain="prompt", version=2, source=Source("prompt", prompts=(text,)))


def file_task(path: Path | str, documents: Cut = "blank_line", num_docs: int | None = None) -> ProbeTask:
    """A task of the documents of a UTF-8 file (its first `num_docs`) that stands in no manifest; the name of the file becomes its id.

    `texts` raises SourceAbsent when there is no such file, and ValueError when it is not text or holds no document."""
    path = Path(path)
    source = Source("file", path=path.name, documents=documents, num_docs=num_docs)
    task_id = _NOT_IN_IDS.sub("_", path.stem).strip(".+-")[:100] or "file"
    return ProbeTask(task_id, domain="text", version=2, source=source, folder=path.parent)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A text as a task lists it, before equal ones are merged."""

    parts: tuple[str, ...]
    group: str = ""
    weight: int = 1


def _is_generated(task: ProbeTask) -> bool:
    return task.source is not None and task.source.type == "generator"


def _written(task: ProbeTask) -> Iterator[_Reading]:
    """What stands in the line or in its file."""
    if task.scored:
        yield from map(_of_item, task.scored)
    else:
        for prompt, weight in zip(task.prompts(), task.weights(), strict=True):
            yield _Reading((prompt,), weight=weight)


def _generated(task: ProbeTask, encode: Encode, n: int | None, seed: int | None) -> Iterator[_Reading]:
    assert task.source is not None
    source = task.source if seed is None else replace(task.source, seed=seed)
    make_texts = generator_of(task).texts
    if make_texts is not None:
        yield from map(_Reading, make_texts(source.num_docs if n is None else n, source.seed or 0))
        return
    scored = replace(task, kind="scored", source=source)
    items = generate(scored, encode)
    if n is not None and n < len(items):
        items = generate(scored, encode, n)  # not the first n: a generator divides n evenly between its kinds
    yield from map(_of_item, items)


def _of_item(item: Item) -> _Reading:
    return _Reading((item.prompt + item.answer,), item.group)


def _merged(task: ProbeTask, readings: Iterable[_Reading]) -> list[Stimulus]:
    """Equal texts become one, with the weight of all of them and the group of the first."""
    found: dict[tuple[str, ...], Stimulus] = {}
    empty, number = [], 0
    for number, reading in enumerate(readings, start=1):
        if not "".join(reading.parts).strip():
            empty.append(number)
        elif reading.parts in found:
            earlier = found[reading.parts]
            found[reading.parts] = replace(earlier, weight=earlier.weight + reading.weight)
        else:
            key = f"{task.task_id}/{hashlib.sha256(_canonical(reading.parts)).hexdigest()[:12]}"
            found[reading.parts] = Stimulus(key, reading.parts, task.domain, reading.group, reading.weight)
    if empty or not found:
        raise ValueError(
            f"task {task.task_id!r}: {len(empty)} of {number} texts are empty or white space only"
            f"{f', the first is number {empty[0]}' if empty else ''}; there are no activations without tokens: take them out"
        )
    return list(found.values())


def _sample(stimuli: list[Stimulus], n: int | None, task: ProbeTask, seed: int | None) -> list[Stimulus]:
    if n is None or n >= len(stimuli):
        return stimuli
    if seed is None:
        return stimuli[:n]
    chosen = Random(f"stimuli:{task.task_id}:{seed}").sample(range(len(stimuli)), n)
    return [stimuli[index] for index in sorted(chosen)]


def _joined(parts: Iterable[Sequence[int]], end_id: int) -> list[int]:
    ids: list[int] = []
    for number, part in enumerate(parts):
        ids += [end_id, *part] if number else part
    return ids


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
