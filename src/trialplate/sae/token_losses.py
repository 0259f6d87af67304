"""What each token costs a model, as it is and under changes: -log P of the next token, and the divergence of the whole distribution.

Symbols: S subjects (None is the model as it is, the others change it while they run), T tokens, v vocabulary. A token is a position whose
prediction of the next token is scored; positions that hold an id in `skip` are read and not scored. Numbers are kept by token, not summed, so that
callers choose what to average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialplate.activations.batches import Batch
from trialplate.activations.likelihood import Changed, Texts, texts_of
from trialplate.models.causal_lm import CausalLM

_LOGITS_AT_ONCE = 4_000_000  # floats of one subject

Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TokenLosses:
    """nats [S, T] = -log P_s(next token);  kl [S, T] = KL(P_0 || P_s) over the vocabulary, in nats, P_0 the first subject;  document [T]."""

    nats: Table
    kl: Table
    document: NDArray[np.intp]

    def by_document(self, values: Table) -> Table:
        """Sums of values [S, T] over the tokens of each document, [D, S]; documents of which nothing is scored are left out."""
        _, codes = np.unique(self.document, return_inverse=True)
        return np.stack([np.bincount(codes, weights=row) for row in values], axis=1)


@torch.inference_mode()
def token_losses(
    model: CausalLM,
    documents: Sequence[Sequence[int]],
    subjects: Sequence[Changed | None],
    *,
    skip: Iterable[int] = (),
    max_length: int | None = None,
    positions: int | None = None,
) -> TokenLosses:
    """Losses of every scored token of the documents under each subject, from the same batches; windows as in `likelihood.texts_of`.

    Log-softmax in float32, so a probability that rounds to 0 keeps its logarithm. ValueError for no subject, no documents, documents of fewer
    than two tokens, nothing to score, or losses that are not finite."""
    if not subjects:
        raise ValueError("wanted at least one subject; None is the model as it is")
    texts, left_out = texts_of(model, documents, max_length=max_length, positions=positions), tuple(set(skip))
    found = [_of_batch(model, batch, texts, subjects, left_out) for batch in texts.plan]
    nats, kl = (np.concatenate([part[i] for part in found], axis=1) for i in (0, 1))
    document = np.concatenate([part[2] for part in found])
    if not document.size:
        raise ValueError(f"{model.label}: every position of {len(documents)} documents holds an id to skip, {left_out}")
    for subject, row in zip(subjects, nats + kl, strict=True):
        if not np.isfinite(row).all():
            who = "the model as it is" if subject is None else subject.label
            raise ValueError(
                f"{model.label}: {int((~np.isfinite(row)).sum())} of {row.size} tokens have no finite loss under {who}; look for NaN weights, or overflow in a narrow dtype"
            )
    return TokenLosses(nats, kl, document)


def _of_batch(
    model: CausalLM, batch: Batch, texts: Texts, subjects: Sequence[Changed | None], skip: tuple[int, ...]
) -> tuple[Table, Table, NDArray[np.intp]]:
    """(nats [S, t], kl [S, t], document [t]) of the t scored tokens of one batch."""
    ids = batch.ids()
    lengths = torch.tensor([len(row.ids) for row in batch.rows])
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    scored = real & ~torch.isin(ids, torch.tensor(skip, dtype=ids.dtype))
    targets, document = torch.zeros_like(ids), torch.zeros_like(ids)
    targets[real] = torch.tensor([token for row in batch.rows for token in texts.targets[row.document]])
    document[real] = torch.tensor([texts.document[row.document] for row in batch.rows]).repeat_interleave(lengths)
    ids, cells = ids.to(model.device), scored.to(model.device)
    outputs = [_outputs(model, ids, subject, real, cells) for subject in subjects]
    wanted = targets[scored].to(model.device)
    parts = [_scores(model, outputs, wanted, slice(i, i + _step(model))) for i in range(0, len(wanted), _step(model))]
    nats, kl = torch.cat([torch.zeros(2, len(subjects), 0), *parts], dim=2).numpy()
    return nats, kl, document[scored].numpy()


def _step(model: CausalLM) -> int:
    return max(1, _LOGITS_AT_ONCE // model.vocab_rows)


def _outputs(model: CausalLM, ids: Tensor, subject: Changed | None, real: Tensor, cells: Tensor) -> Tensor:
    """Final hidden states [t, d] of the scored cells, or their logits where the head cannot be split off."""
    with nullcontext() if subject is None else subject.running(counted=real):
        return (model.hidden if model.splits_head else model.logits)(ids)[cells]


def _scores(model: CausalLM, outputs: Sequence[Tensor], wanted: Tensor, part: slice) -> Tensor:
    """[2, S, t]: nats and divergences of a slice of the tokens, float64 on the CPU."""
    first: Tensor | None = None
    scores = []
    for output in outputs:
        logits = model.head(output[part]) if model.splits_head else output[part]
        own = logits.float().log_softmax(-1)
        first = own if first is None else first
        # negative by rounding alone: it must not make a model seem closer than equal
        kl = (first.exp() * (first - own)).sum(-1).clamp(min=0)
        scores.append(torch.stack([-own.gather(1, wanted[part].unsqueeze(1)).squeeze(1), kl]))
    return torch.stack(scores, dim=1).double().cpu()
