"""Where rows come from: paired activations (x, y) by number, whether they lie in memory, in memory-mapped shards, or come straight from a model.

y is x itself for an autoencoder, and another site's activations of the same tokens for a transcoder. A source says what it is: `digest` names
the very numbers, so that a run is not taken up again on others. Which rows are read in which order is not decided here; see `order`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.activations.capture import collect, plan_for
from trialplate.activations.shards import Store
from trialplate.activations.sites import resolve
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.captured_rows import KeptRows
from trialplate.sae.columns import Columns, MemoryRows, StoredRows
from trialplate.sae.errors import TrainingError

Pair = tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]


class Source(Protocol):
    """Rows to train on or to be measured on."""

    @property
    def d_in(self) -> int:
        """Channels of x."""

    @property
    def d_out(self) -> int:
        """Channels of y."""

    @property
    def n_rows(self) -> int:
        """Rows there are."""

    @property
    def is_paired(self) -> bool:
        """Whether y is something else than x."""

    @property
    def digest(self) -> str:
        """sha256 (hex) that names the numbers and their order."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What a log says of the rows; plain data."""

    @property
    def documents(self) -> Int[Tensor, " n_rows"] | None:
        """The document of every row, where it is known."""

    def rows(self, index: Int[Tensor, " n"]) -> Pair:
        """The rows of these numbers, float32 on the CPU, in the order asked for; y is the same tensor as x where it is nothing else."""


@dataclass(frozen=True)
class Paired:
    """The source that all constructors here make: one site, or two of the same tokens."""

    inputs: Columns
    targets: Columns | None
    n_rows: int
    digest: str
    about: Mapping[str, Any] = field(default_factory=dict)
    documents: Int[Tensor, " n_rows"] | None = None

    @property
    def d_in(self) -> int:
        """Channels of x."""
        return self.inputs.width

    @property
    def d_out(self) -> int:
        """Channels of y."""
        return (self.targets or self.inputs).width

    @property
    def is_paired(self) -> bool:
        """Whether y is something else than x."""
        return self.targets is not None

    def rows(self, index: Int[Tensor, " n"]) -> Pair:
        """The rows of these numbers."""
        x = self.inputs.rows(index)
        return x, x if self.targets is None else self.targets.rows(index)


@dataclass(frozen=True)
class Subset:
    """Some rows of a source, in ascending order of their numbers there."""

    whole: Source
    index: Int[Tensor, " n_rows"]

    @property
    def d_in(self) -> int:
        """Channels of x."""
        return self.whole.d_in

    @property
    def d_out(self) -> int:
        """Channels of y."""
        return self.whole.d_out

    @property
    def n_rows(self) -> int:
        """Rows that were chosen."""
        return len(self.index)

    @property
    def is_paired(self) -> bool:
        """Whether y is something else than x."""
        return self.whole.is_paired

    @cached_property
    def digest(self) -> str:
        """The whole's digest, and which rows of it."""
        return hashlib.sha256(self.whole.digest.encode() + self.index.numpy().tobytes()).hexdigest()

    @property
    def about(self) -> Mapping[str, Any]:
        """What the whole says of itself, and how many of its rows these are."""
        return {**self.whole.about, "rows_of": self.whole.digest, "n_rows": self.n_rows}

    @property
    def documents(self) -> Int[Tensor, " n_rows"] | None:
        """The document of every row, where it is known."""
        return None if self.whole.documents is None else self.whole.documents[self.index]

    def rows(self, index: Int[Tensor, " n"]) -> Pair:
        """The rows of these numbers."""
        return self.whole.rows(self.index[index])


def from_tensor(
    x: Float[Tensor, "n d_in"],
    y: Float[Tensor, "n d_out"] | None = None,
    *,
    name: str,
    documents: Int[Tensor, " n"] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Paired:
    """Rows that are in memory already. `name` is what a log calls them. TrainingError for no rows, unequal numbers of them, or values that are not finite."""
    found = [_checked(name, values) for values in ([x] if y is None else [x, y])]
    if y is not None and len(x) != len(y):
        raise TrainingError(f"{name}: inputs and targets are of the same tokens; got {len(x)} and {len(y)} rows")
    if documents is not None and documents.shape != (len(x),):
        raise TrainingError(f"{name}: wanted the document of each of {len(x)} rows, got {list(documents.shape)}")
    digest = hashlib.sha256()
    for values in found:
        digest.update(str(list(values.shape)).encode())
        digest.update(values.numpy().data)
    columns = [MemoryRows(values) for values in found]
    said = {"kind": "tensor", "name": name, "n_rows": len(x), **(about or {})}
    return Paired(columns[0], columns[1] if y is not None else None, len(x), digest.hexdigest(), said, documents)


def from_store(store: Store, site_in: str, site_out: str | None = None) -> Paired:
    """Rows of one or two sites of a folder of `activations.shards`, read from its memory-mapped shards as they are wanted. StoreError for a site that is not there."""
    sites = [site_in] if site_out in (None, site_in) else [site_in, str(site_out)]
    columns = [StoredRows.of(store, site) for site in sites]
    digest = hashlib.sha256(repr([(site, found.digest) for site, found in zip(sites, columns, strict=True)]).encode())
    about = {
        "kind": "store",
        "site_in": site_in,
        "site_out": sites[-1],
        "n_rows": store.n_rows,
        "plan": store.manifest["plan"],
        "of": store.manifest["about"],
    }
    documents = torch.from_numpy(np.array(store.tokens()["document"], np.int64))
    return Paired(
        columns[0], columns[1] if len(columns) > 1 else None, store.n_rows, digest.hexdigest(), about, documents
    )


def from_model(
    model: CausalLM,
    documents: Mapping[str, Sequence[Sequence[int]]] | Sequence[Sequence[int]],
    site_in: str,
    site_out: str | None = None,
    *,
    max_rows: int | None = None,
    seed: int = 0,
    skip: Sequence[int] = (),
    max_length: int | None = None,
) -> Paired:
    """Rows that a model computes now, in one pass over token ids, kept in memory: at most `max_rows`, a uniform sample of the tokens in random
    order, the same rows in the same order as a folder of shards with this seed would hold. Ids in `skip` give no rows."""
    texts = documents if isinstance(documents, Mapping) else {"texts": documents}
    plan = plan_for(model, texts, max_length=max_length, skip=skip)
    points = {name: resolve(model, name) for name in (site_in, site_out or site_in)}
    kept = {point.name: KeptRows(plan, max_rows, seed) for point in points.values()}
    collect(
        model,
        plan,
        [points[name] for name in dict.fromkeys(points)],
        {(task, site): [rows] for task in texts for site, rows in kept.items()},
    )
    first, last = kept[points[site_in].name], kept[points[site_out or site_in].name]
    about = {
        "kind": "model",
        "model": model.label,
        "weights": model.weights_digest,
        "dtype": model.spec.dtype,
        "site_in": points[site_in].name,
        "site_out": points[site_out or site_in].name,
        "plan": plan.digest,
        "seed": seed,
    }
    return from_tensor(
        first.values,
        None if last is first else last.values,
        name=f"{model.label} {site_in}",
        documents=first.documents,
        about=about,
    )


def split(source: Source, held_out: float, seed: int) -> tuple[Subset, Subset]:
    """(rows to train on, rows held out): whole documents go to either side where documents are known, else rows do.

    `held_out` is a share of the rows, met from above by documents in random order. TrainingError where either side would have nothing."""
    if not 0 < held_out < 1:
        raise TrainingError(f"wanted a share of rows to hold out between 0 and 1, got {held_out}")
    groups = torch.arange(source.n_rows) if source.documents is None else source.documents
    names, code, sizes = np.unique(groups.numpy(), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    enough = int(np.searchsorted(sizes[order].cumsum(), held_out * source.n_rows)) + 1
    if enough >= len(names):
        what = "row" if source.documents is None else "document"
        raise TrainingError(
            f"{len(names)} {what}s cannot be split so that {held_out:g} of {source.n_rows} rows are held out and some are left to train on"
        )
    out = np.isin(code, order[:enough])
    return Subset(source, torch.from_numpy(np.flatnonzero(~out))), Subset(source, torch.from_numpy(np.flatnonzero(out)))


def spread_rows(source: Source, most: int) -> Int[Tensor, " n"]:
    """Numbers of at most so many rows, evenly spread over all of a source."""
    n = min(most, source.n_rows)
    return torch.arange(n) * source.n_rows // n


def shares_rows(one: Source, other: Source) -> bool:
    """Whether two sources are known to have rows in common: the same numbers, a whole and its part, or parts that overlap, parts of parts included."""
    (first, some), (second, others) = _traced(one), _traced(other)
    return first.digest == second.digest and bool(torch.isin(some, others).any())


def _traced(source: Source) -> tuple[Source, Int[Tensor, " n_rows"]]:
    """The source that a part is a part of in the end, and which of its rows it has."""
    index = torch.arange(source.n_rows)
    while isinstance(source, Subset):
        index, source = source.index[index], source.whole
    return source, index


def _checked(name: str, values: Tensor) -> Tensor:
    if values.ndim != 2 or 0 in values.shape:
        raise TrainingError(f"{name}: wanted rows [n, d] with something in them, got {list(values.shape)}")
    values = values.detach().cpu().float().contiguous()
    if not bool(torch.isfinite(values.sum(1, dtype=torch.float64)).all()):
        raise TrainingError(f"{name}: not all of its numbers are finite, so nothing can be learned from them")
    return values
