"""What a line of the probe manifest means: a task with its source of text, its scored items, and a digest of what it asks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trialplate.tasks.items import Item, items_digest
from trialplate.tasks.text_files import Cut, decode_documents

Kind = Literal["stimulus", "scored"]
Positions = Literal["all", "no_first", "answer", "last"]
SourceType = Literal["prompt", "prompt_list", "dataset", "file", "generator"]


class SourceAbsent(FileNotFoundError):
    """The text of a task lies elsewhere: the message says what it is, where it is expected and how to put it there."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the text of a task comes from.

    type      prompt | prompt_list (text in the line), dataset (a name on the hub), file (beside the manifest), generator (seeded)
    prompts   the texts of the first two types
    name      of a dataset, of a generator, or of what a file holds; config, split, revision, text_key: of a dataset
    path      of a file, relative to the folder of the manifest; documents: how it is cut (`text_files.Cut`)
    num_docs  how many documents, rows or generated items; None = all
    repeat    how often each prompt is meant to count
    seed      of a generator;   sha256: of a file's bytes, checked on reading"""

    type: SourceType
    prompts: tuple[str, ...] = ()
    name: str = ""
    config: str = ""
    split: str = "train"
    text_key: str = "text"
    num_docs: int | None = None
    repeat: int = 1
    path: str = ""
    documents: Cut = "blank_line"
    revision: str = ""
    sha256: str = ""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """One line of the manifest.

    version     1 (stimuli only) or 2
    kind        stimulus: text to read; scored: items with right and wrong answers
    source      None for a scored task whose items carry all of its text
    scored      the items that stand in the line (a generator makes its own, see `trialplate.tasks.generators`; the texts of any
                line, generated or not, come from `trialplate.tasks.stimuli`)
    metric      the headline metric of a scored task, by its name in the metric catalogue; "" where the eval decides
    positions   where to read or score: all | no_first | answer | last
    min_tokens, max_tokens   shortest prompt that counts, and truncation; None = no bound
    dedupe      equal prompts count once and `weights` keeps how often; otherwise they are repeated
    folder      of the manifest, for relative paths"""

    task_id: str
    domain: str
    description: str = ""
    version: int = 1
    kind: Kind = "stimulus"
    source: Source | None = None
    scored: tuple[Item, ...] = ()
    metric: str = ""
    positions: Positions = "all"
    min_tokens: int | None = None
    max_tokens: int | None = None
    dedupe: bool = True
    license: str = ""
    folder: Path = Path()

    def prompts(self) -> tuple[str, ...]:
        """The texts, in order; each once with `dedupe` (then `weights` runs beside). Without a source: the prompts of the items.

        SourceAbsent where the text lies elsewhere; ValueError for a generator, whose texts `trialplate.tasks.stimuli` makes."""
        counts = self._counts()
        if self.dedupe:
            return tuple(counts)
        texts, repeat = self._texts()
        return texts * repeat

    def weights(self) -> tuple[int, ...]:
        """How often each of `prompts` counts: 1 everywhere without `dedupe`."""
        return tuple(self._counts().values()) if self.dedupe else (1,) * len(self.prompts())

    def items(self) -> tuple[Item, ...]:
        """The scored items that stand in the line; none for a stimulus. ValueError for a generator of items (it needs a tokenizer)."""
        if self.kind == "scored":
            self._refuse_generator("items", "trialplate.tasks.generators.generate(task, encode)")
        return self.scored

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what the model reads and how it is scored; not of the description or the place of the file."""
        content = {**self._facts(), "prompts": list(self.source.prompts) if self.source else []}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def metadata(self) -> dict[str, Any]:
        """Plain facts for a report: all but the text itself, and the digest of everything."""
        facts = {**self._facts(), "description": self.description, "digest": self.digest}
        return {key: value for key, value in facts.items() if value not in (None, "")}

    def with_folder(self, folder: Path) -> ProbeTask:
        """The same task with its relative paths read from another folder."""
        return replace(self, folder=folder)

    def _facts(self) -> dict[str, Any]:
        source = self.source
        return {
            "task_id": self.task_id,
            "domain": self.domain,
            "kind": self.kind,
            "metric": self.metric,
            "positions": self.positions,
            "min_tokens": self.min_tokens,
            "max_tokens": self.max_tokens,
            "dedupe": self.dedupe,
            "license": self.license,
            "n_items": len(self.scored),
            "items": items_digest(self.scored) if self.scored else None,
            "source": {key: getattr(source, key) for key in _SOURCE_FACTS} if source else None,
        }

    def _counts(self) -> dict[str, int]:
        texts, repeat = self._texts()
        counts: dict[str, int] = {}
        for text in texts:
            counts[text] = counts.get(text, 0) + repeat
        return counts

    def _texts(self) -> tuple[tuple[str, ...], int]:
        self._refuse_generator("prompts", "trialplate.tasks.stimuli.texts(task, encode)")
        if self.source is None:
            return tuple(item.prompt for item in self.scored), 1
        if self.source.type == "file":
            return self._file_documents(self.source), self.source.repeat
        if self.source.type == "dataset":
            raise SourceAbsent(
                f"task {self.task_id!r} points to dataset {_named(self.source)}, which is not shipped; save its column "
                f"{self.source.text_key!r} as a text file and point to that: source.type `file` with `path`"
            )
        return self.source.prompts, self.source.repeat

    def _file_documents(self, source: Source) -> tuple[str, ...]:
        path = self.folder / source.path
        try:
            content = path.read_bytes()
        except OSError as cause:
            raise SourceAbsent(
                f"task {self.task_id!r} reads {_named(source)} from {path}, which is not there ({cause.strerror}); "
                f"{'its licence is ' + self.license + '; ' if self.license else ''}get the file and put it there, "
                "or leave this task out by naming others"
            ) from cause
        found = hashlib.sha256(content).hexdigest()
        if source.sha256 and found != source.sha256:
            raise ValueError(
                f"{path}: wanted the file with SHA-256 {source.sha256}, got {found}; task {self.task_id!r} means other text: "
                "restore the file, or change `source.sha256` in the manifest"
            )
        return decode_documents(content, path, source.documents)[: source.num_docs]

    def _refuse_generator(self, what: str, door: str) -> None:
        if self.source is not None and self.source.type == "generator":
            raise ValueError(
                f"the {what} of task {self.task_id!r} depend on the tokenizer: use {door}, generator {self.source.name!r}"
            )


_SOURCE_FACTS = (
    "type",
    "name",
    "config",
    "split",
    "text_key",
    "num_docs",
    "repeat",
    "path",
    "documents",
    "revision",
    "sha256",
    "seed",
)


def _named(source: Source) -> str:
    parts = [source.name or source.path, source.config, source.split if source.config else ""]
    return " ".join(part for part in parts if part)
