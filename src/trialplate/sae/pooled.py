"""Texts as one row each: means over their kept tokens of activations and of the latents of coders, all from one pass of the model.

Symbols: n texts, d channels, m latents. Every token is encoded first and latents are averaged then: the mean of a code, not the code of a mean.
Kept are all tokens but those to skip: beginnings, ends and paddings, which are in every text and say nothing of any (`special_ids`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.activations.batches import Tokens
from trialplate.activations.capture import collect, plan_for
from trialplate.activations.sites import Point
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError
from trialplate.tasks.stimuli import Stimulus, token_rows

RAW = "raw"
"""The name of the activations themselves among what was pooled."""
_ENTRIES = 1 << 24  # pre-activations at once: 64 MB


@dataclass(frozen=True, eq=False)
class Pooled:
    """means: by name [n, width] float32, the activations under `RAW`; n_tokens: [n] kept tokens of each text."""

    means: Mapping[str, Float[np.ndarray, "n width"]]
    n_tokens: Int[np.ndarray, " n"]


def pool(
    model: CausalLM,
    point: Point,
    coders: Mapping[str, Coder],
    documents: Sequence[Sequence[int]],
    skip: Iterable[int] | None = None,
    *,
    max_length: int | None = None,
) -> Pooled:
    """Means over the kept tokens of every document (token ids) of the activations at a point, and of the latents of coders that read it.

    skip: ids that are read and not counted (None: `special_ids`); max_length: tokens of a document that are read (None: the model's window).
    CoderError for a coder of another width, one named "raw", and a document of which no token is kept."""
    if RAW in coders:
        raise CoderError(f"{RAW!r} is the name of the activations themselves; name the coder otherwise")
    ids = special_ids(model) if skip is None else tuple(skip)
    plan = plan_for(model, {"text": documents}, max_length=max_length, skip=ids)
    means = {name: _Means(len(documents), coder) for name, coder in {RAW: None, **coders}.items()}
    collect(model, plan, [point], {("text", point.name): list(means.values())})
    n_tokens = means[RAW].n_tokens
    if empty := np.flatnonzero(n_tokens == 0).tolist():
        raise CoderError(
            f"{model.label}: {len(empty)} of {len(documents)} texts have no token that is kept, first {empty[0]}; leave them out, or skip fewer ids than {ids}"
        )
    return Pooled({name: found.means for name, found in means.items()}, n_tokens)


def pool_texts(
    model: CausalLM,
    point: Point,
    coder: Coder | None,
    documents: Sequence[Sequence[int]],
    skip: Iterable[int] | None = None,
) -> Float[np.ndarray, "n width"]:
    """`pool` for one coder, or for the activations themselves (None)."""
    found = pool(model, point, {} if coder is None else {"coder": coder}, documents, skip)
    return found.means[RAW if coder is None else "coder"]


def special_ids(model: CausalLM) -> tuple[int, ...]:
    """The ids of beginning, end and padding, those that the tokenizer has, in ascending order."""
    tokenizer = model.tokenizer
    return tuple(sorted({i for i in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) if i is not None}))


def text_ids(model: CausalLM, texts: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """Token ids of texts that are given as their parts, the way the model was trained to read: an end-of-text token between parts (a line break where
    the tokenizer has none), and the beginning token in front where its files ask for it."""
    tokenizer = model.tokenizer
    lead = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    stimuli = [Stimulus(str(number), parts, "text") for number, parts in enumerate(texts)]
    return [[*lead, *row] for row in token_rows(stimuli, tokenizer.encode_batch, tokenizer.eos_id)]


class _Means:
    """A collector of means by document; of activations, or of a coder's latents. A document is whole within one batch."""

    def __init__(self, n_texts: int, coder: Coder | None) -> None:
        self.coder, self.n_tokens = coder, np.zeros(n_texts, dtype=np.int64)
        self.means = np.zeros((n_texts, 0 if coder is None else coder.config.d_sae), dtype=np.float32)

    @torch.no_grad()
    def update(self, values: Float[Tensor, "n d"], tokens: Tokens) -> None:
        """Take the rows of a batch."""
        document, place = tokens.document.unique(return_inverse=True)
        if not len(document):
            return
        counts = torch.bincount(place, minlength=len(document))
        sums = (
            _sums(values, place, len(document)) if self.coder is None else self._latents(values, place, len(document))
        )
        if not self.means.shape[1]:
            self.means = np.zeros((len(self.n_tokens), sums.shape[1]), dtype=np.float32)
        self.means[document.numpy()] = (sums.cpu() / counts[:, None]).numpy()
        self.n_tokens[document.numpy()] = counts.numpy()

    def _latents(self, values: Tensor, place: Tensor, n: int) -> Tensor:
        coder, m = self.coder, self.means.shape[1]
        assert coder is not None
        device = coder.W_dec.device
        sums = torch.zeros(n * m, device=device)
        step = max(1, _ENTRIES // m)
        for x, at in zip(values.split(step), place.to(device).split(step), strict=True):
            code = coder.encode(x.to(coder.W_dec))
            sums.index_add_(0, at[code.rows] * m + code.index, code.value.float())
        return sums.view(n, m)


def _sums(values: Tensor, place: Tensor, n: int) -> Tensor:
    """Rows added up by place, [n, d]."""
    total = torch.zeros(n, values.shape[1], device=values.device)
    return total.index_add_(0, place.to(values.device), values.float())
