"""Activations of latents as files that programs for explaining latents read: a folder of splits of the latents, as delphi caches them
(github.com/EleutherAI/delphi).

    <folder>/<site>/<first>_<last>.safetensors    latents first .. last, both included
        locations    uint32 [n, 3]: row of `tokens`, position in it, latent counted from `first`
        activations  float32 [n], none of them zero, by row, position and latent
        tokens       int64 [rows, ctx_len]: every document, cut to ctx_len and filled up on the right; in every split
    <folder>/<site>/config.json                   model_name, ctx_len, n_tokens, n_splits, width and the coder's digest"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from trialplate.activations.batches import Plan, Tokens
from trialplate.activations.capture import collect, plan_for
from trialplate.activations.sites import Point
from trialplate.models.causal_lm import CausalLM
from trialplate.report.files import write_atomic
from trialplate.sae.coder import Coder
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.latent_tally import encoded
from trialplate.sae.pooled import special_ids

_TASK = "text"


def export_latents(
    coder: Coder,
    model: CausalLM,
    point: Point,
    documents: Sequence[Sequence[int]],
    folder: Path,
    *,
    n_splits: int = 1,
    latents: Sequence[int] | None = None,
    skip: Iterable[int] | None = None,
    max_length: int | None = None,
) -> list[Path]:
    """Write every activation that is not zero; returns the files of the splits. The site's folder must not be there yet.

    latents: only these (None: all); skip: ids whose activations are left out, as in `dashboard`. Holds 16 bytes for every activation, L0 of them a token.
    ValueError for numbers of splits or latents that cannot be; FileExistsError; CaptureError as `plan_for`."""
    m = coder.config.d_sae
    if not 1 <= n_splits <= m:
        raise ValueError(f"wanted between 1 and {m} splits of {m} latents, got {n_splits}")
    if latents is not None and (not len(latents) or not all(0 <= j < m for j in latents)):
        raise ValueError(f"wanted some latents from 0 to {m - 1}, got {list(latents)[:20]}")
    place = folder / point.name
    if place.exists():
        raise FileExistsError(f"{place} exists, and splits of two exports do not mix; choose another folder")
    ids = special_ids(model) if skip is None else tuple(skip)
    plan = plan_for(model, {_TASK: documents}, max_length=max_length, skip=ids)
    entries = _Entries(coder, None if latents is None else np.unique(np.asarray(latents)))
    collect(model, plan, [point], {(_TASK, point.name): [entries]})
    pad = model.tokenizer.pad_id if model.tokenizer.pad_id is not None else model.tokenizer.eos_id
    tokens = _rectangle(plan, len(documents), 0 if pad is None else pad)
    place.mkdir(parents=True)
    written = _splits(place, entries, tokens, [m * i // n_splits for i in range(n_splits + 1)])
    about = {
        "model_name": model.label,
        "ctx_len": tokens.shape[1],
        "n_tokens": int(tokens.size),
        "n_splits": n_splits,
        "width": m,
        "coder": coder_digest(coder),
        "site": point.name,
    }
    write_atomic(place / "config.json", (json.dumps(about, indent=1) + "\n").encode())
    return written


class _Entries:
    """A collector of (document, position, latent) and activation of everything that is not zero."""

    def __init__(self, coder: Coder, only: NDArray[np.int64] | None) -> None:
        self.coder, self.only = coder, only
        self._where: list[NDArray[np.uint32]] = []
        self._value: list[NDArray[np.float32]] = []

    @torch.no_grad()
    def update(self, values: Float[Tensor, "n d"], tokens: Tokens) -> None:
        """Take the rows of a batch."""
        document, position = tokens.document.numpy(), tokens.position.numpy()
        for low, code in encoded(self.coder, values):
            row, latent, value = (part.cpu().numpy() for part in (code.rows, code.index, code.value.float()))
            kept = value != 0
            if self.only is not None:
                kept &= np.isin(latent, self.only)
            row = row[kept] + low
            self._where.append(np.stack([document[row], position[row], latent[kept]], axis=1).astype(np.uint32))
            self._value.append(value[kept])

    def ordered(self) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """(locations [n, 3], activations [n]) by document, position and latent."""
        where, value = np.concatenate(self._where), np.concatenate(self._value)
        order = np.lexsort((where[:, 2], where[:, 1], where[:, 0]))
        return where[order], value[order]


def _splits(place: Path, entries: _Entries, tokens: NDArray[np.int64], bounds: Sequence[int]) -> list[Path]:
    where, value = entries.ordered()
    written = []
    for first, end in pairwise(bounds):
        inside = (where[:, 2] >= first) & (where[:, 2] < end)
        locations = where[inside] - np.array([0, 0, first], np.uint32)
        path = place / f"{first}_{end - 1}.safetensors"
        write_atomic(path, save({"locations": locations, "activations": value[inside], "tokens": tokens}))
        written.append(path)
    return written


def _rectangle(plan: Plan, n: int, pad: int) -> NDArray[np.int64]:
    rows = {row.document: row.ids for batch in plan for row in batch.rows}
    tokens = np.full((n, max(map(len, rows.values()))), pad, np.int64)
    for document, ids in rows.items():
        tokens[document, : len(ids)] = ids
    return tokens
