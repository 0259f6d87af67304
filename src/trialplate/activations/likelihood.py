"""Sums of likelihood and divergence by document, of a model as it is and of the same model under several rules, from the same batches.

Symbols: b rows, s columns, T scored tokens, v vocabulary. A document is a sequence of token ids as the model reads it; its first token is given and
every other is scored once. Long documents are read in windows that overlap by one token. Every row stops before its last token, so each cell that
runs is a cell whose prediction is scored, padding on the right apart.

Hidden states of one batch are kept for the model and all rules; logits only in slices, of which those of the dense model are formed once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialplate.activations.batches import ACCELERATOR_POSITIONS, CPU_POSITIONS, Batch, Plan, make_plan
from trialplate.activations.errors import CaptureError
from trialplate.models.causal_lm import CausalLM

# Logits held at once, in floats, of the dense model and again of one rule. Smaller slices read the head more often, larger ones leave the caches.
_LOGITS_AT_ONCE = 4_000_000

Sums = NDArray[np.float64]


class Changed(Protocol):
    """A model that computes something else within a block: under a rule, or with units held."""

    @property
    def label(self) -> str:
        """What is changed, for messages."""

    def running(self, counted: Tensor | None = None) -> AbstractContextManager[None]:
        """The change holds within the block; `counted` [b, s] says which cells count."""


@dataclass(frozen=True)
class Texts:
    """Rows to read and tokens to score. `targets[i]` follow the cells of row i, `document[i]` is the document it is part of; `n_tokens` [n_docs] are scored tokens."""

    plan: Plan
    targets: tuple[tuple[int, ...], ...]
    document: tuple[int, ...]
    n_tokens: Sums


@dataclass
class Likelihood:
    """Sums over the scored tokens of each document [n_docs]: nats = -log P(token), and KL(dense || this) of the next-token distributions."""

    nats: Sums
    kl: Sums = field(default_factory=lambda: np.zeros(0))


def texts_of(
    model: CausalLM,
    documents: Sequence[Sequence[int]],
    *,
    max_length: int | None = None,
    positions: int | None = None,
) -> Texts:
    """Windows of at most `max_length` tokens (None: what the model can read), batches of at most `positions` cells (None: what suits the device).

    Raises ValueError for no documents, for one of fewer than two tokens, of which none could be scored, and for a window without room."""
    if not len(documents):
        raise ValueError(f"{model.label}: no documents, so there is nothing to score")
    if short := [i for i, ids in enumerate(documents) if len(ids) < 2]:
        raise ValueError(
            f"{model.label}: document {short[0]} has {len(documents[short[0]])} tokens ({len(short)} such of {len(documents)}); the first token is given, so at least 2 are wanted. "
            "Leave such texts out, or put the model's beginning token in front of all"
        )
    window = model.max_length if max_length is None else min(max_length, model.max_length)
    if window < 1:
        raise ValueError(f"{model.label}: a window holds at least 1 token, got max_length={max_length}")
    parts = [
        (number, ids[start : start + window], ids[start + 1 : start + window + 1])
        for number, ids in enumerate(documents)
        for start in range(0, len(ids) - 1, window)
    ]
    inputs = [tuple(given[: len(scored)]) for _, given, scored in parts]
    default = CPU_POSITIONS if model.device.type == "cpu" else ACCELERATOR_POSITIONS
    if not model.splits_head:  # whole logits are held, so batches are as small as they can be
        default = 1
    plan = make_plan({"text": inputs}, max_length=window, positions=positions or default)
    n_tokens = np.array([len(ids) - 1 for ids in documents], dtype=np.float64)
    return Texts(plan, tuple(tuple(t) for _, _, t in parts), tuple(number for number, _, _ in parts), n_tokens)


@torch.inference_mode()
def likelihoods(
    model: CausalLM, texts: Texts, subjects: Sequence[Changed | None], *, divergence: bool = False
) -> list[Likelihood]:
    """The sums of every subject: None is the dense model, the others run as they change it.

    With `divergence`, the first is the dense model, its own `kl` is 0, and that of the others is taken from it; else `kl` is empty.
    Raises CaptureError where a scored token has no finite likelihood."""
    if divergence and (not subjects or subjects[0] is not None):
        raise ValueError("divergences are taken from the dense model, so None stands first among the subjects")
    n_docs = len(texts.n_tokens)
    found = [Likelihood(np.zeros(n_docs), np.zeros(n_docs if divergence else 0)) for _ in subjects]
    # a head that cannot be split off makes outputs as wide as the vocabulary: then one subject at a time
    numbers = range(len(subjects))
    groups = [list(numbers)] if model.splits_head else [[i] for i in numbers]
    for batch in texts.plan:
        real, targets, document = _cells(batch, texts)
        ids, real, targets = (x.to(model.device) for x in (batch.ids(), real, targets))
        reference: Tensor | None = None
        for group in groups:
            outputs = [_outputs(model, ids, subjects[i], real) for i in group]
            if divergence and reference is None:
                reference = outputs[0]
            _add(model, reference, outputs, targets, document, [found[i] for i in group])
    for subject, sums in zip(subjects, found, strict=True):
        _require_finite(model, subject, sums)
    return found


def _cells(batch: Batch, texts: Texts) -> tuple[Tensor, Tensor, Tensor]:
    """Which cells [b, s] are real, and of those in reading order the targets [T] and documents [T]."""
    width = max(len(row.ids) for row in batch.rows)
    lengths = torch.tensor([len(row.ids) for row in batch.rows])
    targets = torch.tensor([token for row in batch.rows for token in texts.targets[row.document]])
    document = torch.tensor([texts.document[row.document] for row in batch.rows]).repeat_interleave(lengths)
    return torch.arange(width) < lengths[:, None], targets, document


def _outputs(model: CausalLM, ids: Tensor, rule: Changed | None, real: Tensor) -> Tensor:
    """Final hidden states of the real cells [T, d], or their logits [T, v] where the head cannot be split off."""
    with nullcontext() if rule is None else rule.running(counted=real):
        return (model.hidden if model.splits_head else model.logits)(ids)[real]


def _add(
    model: CausalLM,
    reference: Tensor | None,
    outputs: Sequence[Tensor],
    targets: Tensor,
    document: Tensor,
    into: Sequence[Likelihood],
) -> None:
    """Slices of the cells through the head, one after the other; divergences from `reference` where there is one."""
    step = max(1, _LOGITS_AT_ONCE // model.vocab_rows)
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        wanted, documents = targets[part].unsqueeze(1), document[part]
        dense = None if reference is None else _log_probabilities(model, reference[part])
        probabilities = None if dense is None else dense.exp()
        for output, sums in zip(outputs, into, strict=True):
            own = dense if dense is not None and output is reference else _log_probabilities(model, output[part])
            _by_document(sums.nats, -own.gather(1, wanted).squeeze(1), documents)
            if dense is not None and probabilities is not None and output is not reference:
                # negative by rounding alone: it must not make a model seem closer than equal
                _by_document(sums.kl, (probabilities * (dense - own)).sum(1).clamp(min=0), documents)


def _log_probabilities(model: CausalLM, output: Tensor) -> Tensor:
    logits = model.head(output) if model.splits_head else output
    return logits.float().log_softmax(-1)


def _by_document(sums: Sums, values: Tensor, documents: Tensor) -> None:
    np.add.at(sums, documents.numpy(), values.cpu().double().numpy())


def _require_finite(model: CausalLM, subject: Changed | None, sums: Likelihood) -> None:
    if not np.isfinite(sums.nats).all():
        who = "the dense model" if subject is None else subject.label
        raise CaptureError(
            f"{model.label}: documents {np.flatnonzero(~np.isfinite(sums.nats))[:5].tolist()} have no finite likelihood under {who}; look for NaN or infinite weights, or for overflow in a narrow dtype"
        )
