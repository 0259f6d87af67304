"""Texts become rows of token ids, rows become batches: one task a batch, rows of like length together, a budget of positions a batch.

A causal model does not look at what follows, so rows are padded on the right without a mask; what was read there is never handed on.
The cells of a batch are listed with the first token of every row in front: with and without position 0 are then two slices of one array."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from trialplate.activations.errors import CaptureError

# Positions a batch. On a processor larger batches leave its caches; on an accelerator they fill it.
CPU_POSITIONS, ACCELERATOR_POSITIONS = 4096, 16384
MAX_CLUSTERS = 256
"""Clusters a task: documents up to here, beyond it blocks of documents, so that what is kept for intervals does not grow with the number of texts."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text as the model reads it. `document` numbers the texts of all tasks, `cluster` those of its task (at most MAX_CLUSTERS)."""

    task: str
    document: int
    cluster: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Tokens:
    """What is known of the cells of a batch, [n] each on the CPU: index into the flattened [b, s], document, cluster, position and token id.

    The first `n_first` are position 0 of each row."""

    cell: torch.Tensor
    document: torch.Tensor
    cluster: torch.Tensor
    position: torch.Tensor
    token: torch.Tensor
    n_first: int

    def __len__(self) -> int:
        return len(self.token)


@dataclass(frozen=True)
class Batch:
    """Rows of one task that are read at once. Cells that hold an id in `skip` are read and not handed on."""

    task: str
    rows: tuple[Row, ...]
    skip: tuple[int, ...] = ()

    def ids(self) -> torch.Tensor:
        """[b, s], filled up with id 0 on the right."""
        width = max(len(row.ids) for row in self.rows)
        return torch.tensor([row.ids + (0,) * (width - len(row.ids)) for row in self.rows])

    def tokens(self) -> Tokens:
        """The cells that are handed on: the first of every row, then all others in reading order."""
        ids = self.ids()
        width = ids.shape[1]
        lengths = torch.tensor([len(row.ids) for row in self.rows])
        columns = torch.arange(width)
        real = (columns < lengths[:, None]) & ~torch.isin(ids, torch.tensor(self.skip, dtype=ids.dtype))
        first, later = ((real & where).flatten().nonzero().squeeze(1) for where in (columns == 0, columns > 0))
        cell = torch.cat([first, later])
        row = cell // width
        documents = torch.tensor([r.document for r in self.rows])
        clusters = torch.tensor([r.cluster for r in self.rows])
        return Tokens(cell, documents[row], clusters[row], cell % width, ids.flatten()[cell], len(first))

    @property
    def n_tokens(self) -> int:
        """Tokens that are handed on."""
        return sum(token not in self.skip for row in self.rows for token in row.ids)


@dataclass(frozen=True)
class Plan:
    """All batches of a pass, in order. `n_tokens` and `n_clusters` are by task; `digest` names exactly what is read, batch by batch."""

    batches: tuple[Batch, ...]
    n_tokens: Mapping[str, int]
    n_clusters: Mapping[str, int]
    digest: str

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    @property
    def total(self) -> int:
        """Tokens of all tasks."""
        return sum(self.n_tokens.values())


def make_plan(
    documents: Mapping[str, Sequence[Sequence[int]]],
    *,
    max_length: int,
    positions: int,
    max_clusters: int = MAX_CLUSTERS,
    skip: Iterable[int] = (),
) -> Plan:
    """Batches of the token ids of every task's documents, task after task.

    Documents are cut to `max_length` tokens; `positions` bounds b * s of a batch, though one row always fits. `skip`: ids whose activations are
    not handed on (separators that were put between texts, say). Raises CaptureError for no task, a task without documents, a document without
    tokens, or a task of which nothing is handed on."""
    if not documents:
        raise CaptureError("nothing to read: no task was given")
    left_out = tuple(sorted(set(skip)))
    batches: list[Batch] = []
    n_tokens, n_clusters, number = {}, {}, 0
    for task, texts in documents.items():
        rows = _rows(task, texts, number, max_length, max_clusters)
        number += len(rows)
        own = [Batch(task, group, left_out) for group in _groups(rows, positions)]
        n_tokens[task], n_clusters[task] = sum(b.n_tokens for b in own), 1 + max(row.cluster for row in rows)
        if not n_tokens[task]:
            raise CaptureError(
                f"task {task!r}: every token of its {len(rows)} documents is one of the ids to skip, {left_out}"
            )
        batches += own
    return Plan(tuple(batches), n_tokens, n_clusters, _digest(batches))


def _rows(task: str, texts: Sequence[Sequence[int]], number: int, max_length: int, max_clusters: int) -> list[Row]:
    if not texts:
        raise CaptureError(f"task {task!r} has no documents, so there is nothing to read of it")
    if empty := [i for i, ids in enumerate(texts) if not len(ids)]:
        raise CaptureError(
            f"task {task!r}: document {empty[0]} has no tokens ({len(empty)} such of {len(texts)}); leave empty texts out, or give every text a beginning token"
        )
    many = len(texts) > max_clusters
    return [
        Row(task, number + i, i * max_clusters // len(texts) if many else i, tuple(int(t) for t in ids[:max_length]))
        for i, ids in enumerate(texts)
    ]


def _groups(rows: Iterable[Row], positions: int) -> Iterator[tuple[Row, ...]]:
    """Longest first: memory runs out at once or never."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda r: -len(r.ids)):
        if group and (len(group) + 1) * len(group[0].ids) > positions:
            yield tuple(group)
            group = []
        group.append(row)
    yield tuple(group)


def _digest(batches: Iterable[Batch]) -> str:
    found = hashlib.sha256()
    for batch in batches:
        found.update(repr((batch.task, batch.skip, [(row.document, row.ids) for row in batch.rows])).encode())
    return found.hexdigest()
