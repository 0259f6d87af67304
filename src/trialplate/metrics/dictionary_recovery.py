"""What a coder found of features that are known: the test of everything else, since here the truth is there to compare with.

Symbols: T [g, d] true features, D [m, d] decoder rows of alive latents; S = cosines [g, m]; a matched pair (i, j) is one of the one-to-one matching
of the largest sum. A pair is a find where S_ij reaches the threshold. Directions are signed: a latent that points the other way found nothing.

MCC here is a mean of cosines of directions, as the field uses the letters with planted features; it is no correlation of codes, and its chance level
is `chance_level(d, (g, m), "matched_cosine", rng, absolute=True)` (0.19 at d = 128, g = m = 32), not 0.
Precision, recall and F1 at 0.9 are 0 by chance from some 32 channels on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse

from trialplate.metrics.cosines import LARGEST_MATCHING, Matching, Rows, assign, cosines, refuse_large
from trialplate.metrics.sparse_codes import Codes, columns


@dataclass(frozen=True, slots=True, eq=False)
class Recovery:
    """How much of a planted dictionary a decoder holds.

    precision   finds / m: share of latents that are a feature which no other latent stands for; a second copy counts against it
    recall      finds / g: share of features that were found
    f1          2 finds / (g + m)
    mcc         mean |cosine| of the one-to-one matching on |S|, over min(g, m) pairs; says nothing of features beyond m
    uniqueness  of latents whose nearest feature reaches the threshold, the share whose feature is no other such latent's; None where none does
    found       [g] bool, features with a find
    latent      [g] the latent matched with each feature on signed cosines, -1 for none
    cosine      [g] its cosine, -1 for none
    threshold   the least cosine of a find"""

    precision: float
    recall: float
    f1: float
    mcc: float
    uniqueness: float | None
    found: NDArray[np.bool_]
    latent: Int[np.ndarray, " g"]
    cosine: Float[np.ndarray, " g"]
    threshold: float

    @property
    def pairs(self) -> Int[np.ndarray, "matched 2"]:
        """[matched, 2] feature and latent of every matched pair, found or not."""
        features = np.flatnonzero(self.latent >= 0)
        return np.column_stack([features, self.latent[features]])


@dataclass(frozen=True, slots=True, eq=False)
class CodeRecovery:
    """Whether latents fire where their features are active.

    precision   [scored] share of the latent's firings at which the feature is active; 0 for a latent that never fires
    recall      [scored] share of the feature's activity at which the latent fires
    f1          [scored] harmonic mean, 2 both / (firings + activity)
    pairs       [scored, 2] feature and latent
    unseen      [others, 2] pairs whose feature is never active on these tokens: there is nothing to find, so they are no part of a mean"""

    precision: Float[np.ndarray, " scored"]
    recall: Float[np.ndarray, " scored"]
    f1: Float[np.ndarray, " scored"]
    pairs: Int[np.ndarray, "scored 2"]
    unseen: Int[np.ndarray, "others 2"]

    @property
    def mean_f1(self) -> float:
        """Mean F1 of the scored pairs, each of one weight."""
        return float(self.f1.mean())


def recovery(truth: Rows, decoder: Rows, threshold: float = 0.9, *, largest: int = LARGEST_MATCHING) -> Recovery:
    """Recovery of truth [g, d] by a decoder [m, d]; all in [0, 1], higher is better. ValueError for a threshold outside (0, 1], zero rows or other widths."""
    if not 0 < threshold <= 1:
        raise ValueError(
            f"a find is a cosine of at least the threshold, which lies in (0, 1]; got {threshold}; 0.9 is usual"
        )
    g, m = len(truth), len(decoder)
    refuse_large(g, m, largest)
    score = cosines(truth, decoder)
    signed, unsigned = assign(score), assign(score.abs())
    latent, cosine = _by_feature(signed, g)
    found = cosine >= threshold
    finds = int(found.sum())
    return Recovery(
        finds / m,
        finds / g,
        2 * finds / (g + m),
        float(np.clip(unsigned.cosine.mean(), 0, 1)),
        _uniqueness(score.double().cpu().numpy(), threshold),
        found,
        latent,
        cosine,
        threshold,
    )


def code_recovery(truth: Codes, codes: Codes, pairs: NDArray[np.intp]) -> CodeRecovery:
    """Firing of matched latents against activity of their features on the same n tokens; active means not zero.

    truth: [n, g], codes: [n, m], dense or sparse; pairs: [p, 2] feature and latent, as `Recovery.pairs` (of alive rows: mapped back to latents).
    ValueError for different numbers of tokens, indices that are not there, or where no feature of a pair is ever active."""
    active, fires = (_flags(code, name) for code, name in ((truth, "the true code"), (codes, "the code")))
    chosen = np.asarray(pairs)
    if active.shape[0] != fires.shape[0]:
        raise ValueError(
            f"firing and truth are compared on the same tokens, got {fires.shape[0]} and {active.shape[0]}"
        )
    sizes = (active.shape[1], fires.shape[1])
    if chosen.ndim != 2 or chosen.shape[1] != 2 or not len(chosen) or (chosen < 0).any() or (chosen >= sizes).any():
        raise ValueError(
            f"pairs are [p, 2] indices of {sizes[0]} features and {sizes[1]} latents, at least one; got shape {chosen.shape}"
        )
    one, two = active[:, chosen[:, 0]], fires[:, chosen[:, 1]]
    both, activity, firings = (_counts(table) for table in (one.multiply(two), one, two))
    seen = activity > 0
    if not seen.any():
        raise ValueError(
            f"none of {len(chosen)} features is active on these {active.shape[0]} tokens; take more tokens"
        )
    both, activity, firings = both[seen], activity[seen], firings[seen]
    precision = np.divide(both, firings, out=np.zeros_like(both), where=firings > 0)
    return CodeRecovery(precision, both / activity, 2 * both / (firings + activity), chosen[seen], chosen[~seen])


def _by_feature(pairs: Matching, g: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    latent, cosine = np.full(g, -1), np.full(g, -1.0)
    latent[pairs.a], cosine[pairs.a] = pairs.b, pairs.cosine
    return latent, cosine


def _uniqueness(score: NDArray[np.float64], threshold: float) -> float | None:
    claimed = score.argmax(axis=0)[score.max(axis=0) >= threshold]
    if not claimed.size:
        return None
    return float((np.bincount(claimed)[claimed] == 1).mean())


def _flags(code: Codes, name: str) -> sparse.csc_array:
    table = columns(code, name)
    table.data[:] = 1.0
    return table


def _counts(table: sparse.csc_array) -> NDArray[np.float64]:
    return np.asarray(table.sum(axis=0), dtype=np.float64).ravel()
