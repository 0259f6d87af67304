"""Firing patterns that keep what one unit does and forget what the others do: nulls for co-activation, and thinning against dependence.

Symbols: T tokens in order, documents whole and one after the other; document [T] names the document of each token.

Two nulls, for two questions. Both keep every n_i.

* `shifted`: each unit's series is turned by its own random offset within each document. Kept: how often a unit fires in every document, and
  its rhythm there. Lost: on which tokens. If pairs still fire together afterwards, they do so because they like the same
  documents (task, topic, length). Question: do units meet on tokens, beyond liking the same documents?
* `dealt`: each unit's series of whole documents are dealt anew among documents of similar length and the same task. Kept: what a unit
  does in a document, where in it (its start), and how much it likes a task. Lost: which document. If pairs still fire together
  afterwards, they do so because they like the same task or the same positions. Question: do units meet over the content
  of a text, beyond task and position?

Neither contains the other: a shift keeps the document and loses the position, a deal keeps the position and loses the document. In a
document of one token a shift does nothing, in one of two half of the time: what happens in short documents counts as liking them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

_TABLE = 32  # documents among which a deal is made, at least, where the task has as many
_AT_ONCE = 2**19  # firings turned at once: half a MiB, which a second-level cache holds


def shifted(
    fires: Bool[np.ndarray, "token unit"], document: ArrayLike, rng: np.random.Generator
) -> Bool[np.ndarray, "token unit"]:
    """The pattern with each unit turned by an offset of its own, uniform on 0 .. L - 1, in each document of L tokens.

    ValueError where no document has two tokens: then nothing can be shifted."""
    spans = _spans(fires, document)
    lengths = spans[:, 1] - spans[:, 0]
    if lengths.max() < 2:
        raise ValueError(f"all {len(spans)} documents have one token, so a shift changes nothing; use `dealt`")
    out = fires.copy()
    for length in np.unique(lengths[lengths > 1]).tolist():
        rows = spans[lengths == length, :1] + np.arange(length)  # [document, step]
        for part in np.array_split(rows, -(-rows.size * fires.shape[1] // _AT_ONCE)):
            turned = fires[part]  # [document, step, unit]
            offset = rng.integers(0, length, (len(part), 1, fires.shape[1]))
            for power in range((length - 1).bit_length()):  # a turn by 5 is one by 4 and one by 1
                turns = (offset >> power & 1).astype(bool)
                turned = np.where(turns, np.roll(turned, 1 << power, axis=1), turned)
            out[part] = turned
    return out


def dealt(
    fires: Bool[np.ndarray, "token unit"],
    document: ArrayLike,
    rng: np.random.Generator,
    task: ArrayLike | None = None,
) -> Bool[np.ndarray, "token unit"]:
    """The pattern with each unit's documents in an order of its own, among at least 32 of one task (or all of it) of similar length.

    task: [T], the same for all tokens of a document; without it all documents are of one task. A series that is too long for the
    document it is dealt to leaves its end to documents that got one too short, so no firing is lost. The mean of the k documents of a
    table is kept, and with it about a k-th of the covariance that units owe to single documents. ValueError where a task has
    one document: it would keep its co-activation."""
    spans = _spans(fires, document)
    out = fires.copy()
    for members in _tables(spans, _task_of(spans, task, len(fires))):
        steps = np.arange((spans[members, 1] - spans[members, 0]).max())
        rows = spans[members, :1] + steps  # [document, step]
        inside = rows < spans[members, 1:]
        taken, width = rows[inside], max(1, _AT_ONCE // rows.size)
        for begin in range(0, fires.shape[1], width):
            units = slice(begin, begin + width)
            padded = np.zeros((fires[0, units].size, *rows.shape), dtype=bool)
            padded[:, inside] = fires[taken, units].T
            out[taken, units] = _deal(padded, inside, rng)[:, inside].T
    return out


def one_per_block(document: ArrayLike, block: int, rng: np.random.Generator) -> Int[np.ndarray, " kept"]:
    """Indices of one random token of every `block` successive tokens of a document, ascending: fewer tokens, less dependent.

    The last block of a document may be shorter, and gives a token too. Documents stay dependent inside if they have several blocks."""
    if block < 1:
        raise ValueError(f"a block holds at least one token, got {block}; 8 is usual")
    begins, ends = _document_spans(np.asarray(document)).T
    starts = np.concatenate([np.arange(begin, end, block) for begin, end in zip(begins, ends, strict=True)])
    sizes = np.diff(np.append(starts, ends[-1]))
    return starts + np.floor(rng.random(len(starts)) * sizes).astype(np.intp)


def _deal(
    padded: Bool[np.ndarray, "unit document step"], inside: Bool[np.ndarray, "document step"], rng: np.random.Generator
) -> Bool[np.ndarray, "unit document step"]:
    """Series in an order drawn for each unit, ends that do not fit moved to where something is missing."""
    n_units, n_documents, _ = padded.shape
    order = rng.random((n_units, n_documents)).argsort(axis=1)
    series = padded[np.arange(n_units)[:, None], order]
    if inside.all():
        return series
    filled = inside[order]  # [unit, document, step]: what the dealt series covers
    # of each unit as many steps stick out as are missing, and a boolean index goes unit by unit
    series[inside & ~filled] = series[filled & ~inside]
    return series


def _tables(spans: np.ndarray, task: np.ndarray) -> list[np.ndarray]:
    """Tables of documents that deal among themselves: of one task, next to each other by length, all of one length in one table."""
    tables: list[np.ndarray] = []
    lengths = spans[:, 1] - spans[:, 0]
    by_length = np.argsort(lengths, kind="stable")
    for label in np.unique(task):
        members = by_length[task[by_length] == label]
        if len(members) < 2:
            raise ValueError(
                f"task {label!s} has one document, and dealing needs two to exchange; take more documents, or leave this null out"
            )
        cuts = [0]
        for end in np.cumsum(np.unique(lengths[members], return_counts=True)[1]).tolist():
            if end - cuts[-1] >= _TABLE and len(members) - end >= _TABLE:
                cuts.append(end)
        tables += np.split(members, cuts[1:])
    return tables


def _task_of(spans: np.ndarray, task: ArrayLike | None, n_tokens: int) -> np.ndarray:
    """Task of each document."""
    if task is None:
        return np.zeros(len(spans), dtype=np.intp)
    labels = np.asarray(task)
    if labels.shape != (n_tokens,):
        raise ValueError(f"one task label a token is needed, got shape {labels.shape} for {n_tokens} tokens")
    first = labels[spans[:, 0]]
    mixed = np.repeat(first, spans[:, 1] - spans[:, 0]) != labels
    if mixed.any():
        raise ValueError(
            f"a document has one task, but labels change inside the document at token {int(mixed.argmax())}"
        )
    return first


def _spans(fires: np.ndarray, document: ArrayLike) -> np.ndarray:
    """[document, 2] first token, and one past the last."""
    names = np.asarray(document)
    if fires.dtype != np.bool_ or fires.ndim != 2 or names.shape != fires.shape[:1] or not fires.size:
        raise ValueError(
            f"surrogates want bool patterns [tokens, units], not empty, and one document a token; got {fires.dtype} {fires.shape} "
            f"and {names.shape}"
        )
    return _document_spans(names)


def _document_spans(names: np.ndarray) -> np.ndarray:
    if names.ndim != 1 or not names.size:
        raise ValueError(f"documents are named token by token, [T] with T at least 1; got shape {names.shape}")
    begins = np.append(0, np.flatnonzero(names[1:] != names[:-1]) + 1)
    n_names = len(np.unique(names))
    if n_names < len(begins):
        raise ValueError(
            f"documents stand whole and one after the other, but {len(begins)} runs of tokens share {n_names} names; sort the tokens by document"
        )
    return np.stack([begins, np.append(begins[1:], len(names))], axis=1)
