"""How alike two dictionaries are: what a second seed found again. Symbols: A [m_a, d], B [m_b, d] decoders, a latent a row; S = their cosines.

Two numbers go by the name PWMCC, and differ. `mean_max_cosine` takes for every latent its nearest in the other dictionary, so many may share one;
`matched_cosine` pairs them one to one (Hungarian), so it is never above it. Neither means anything without its chance level for the same d and m:
0.30 is what random directions show at d = 128, m = 1,024. `chance_level` gives it, `adjusted` of `random_directions` takes it off.

`absolute=True` counts opposite directions as the same. Latents that cannot be negative have directions with a sign, so signed is the default.
A decoder is [m, d] and stays so: 64 latents of 128 channels are 64 directions, not 128. Dead latents without a direction are refused, not skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trialplate.metrics.cosines import (
    LARGEST_MATCHING,
    Matching,
    Rows,
    assign,
    cosines,
    hungarian,
    nearest,
    refuse_large,
    unit_rows,
)
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.random_directions import adjusted, expected_max_cosine, gaussian_rows
from trialplate.metrics.statistics import mean

__all__ = [
    "STATISTICS",
    "adjusted",
    "chance_level",
    "hungarian",
    "matched_cosine",
    "max_cosines",
    "mean_max_cosine",
    "mutual_nearest",
    "rotated_chance",
    "shared_fraction",
    "shared_pairs",
    "subspace_overlap",
]

Weights = tuple[ArrayLike, ArrayLike]
Statistic = Callable[[Rows, Rows], float]


class Directional(NamedTuple):
    """Mean largest cosine of the latents of A among those of B, and the other way; a large dictionary finds a small one more easily than it is found."""

    a_in_b: float
    b_in_a: float


class MutualNearest(NamedTuple):
    """Pairs in which each is the other's nearest.

    fraction: of the min(m_a, m_b) pairs that could be.   cosine: their mean; there is always one such pair.   pairs: all of them."""

    fraction: float
    cosine: float
    pairs: Matching


class SharedPairs(NamedTuple):
    """Latents matched on encoder and decoder together, and the cosine of each side.

    a, b: [pairs] latents.   encoder, decoder: [pairs] cosines."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    encoder: NDArray[np.float64]
    decoder: NDArray[np.float64]

    def curve(self, thresholds: ArrayLike) -> Float[np.ndarray, " thresholds"]:
        """Share of the pairs of which both cosines reach each threshold: the whole answer, of which one cut is a point."""
        least = np.minimum(self.encoder, self.decoder)
        return (least >= np.asarray(thresholds, dtype=np.float64)[..., np.newaxis]).mean(axis=-1)


def mean_max_cosine(a: Rows, b: Rows, absolute: bool = False, *, weights: Weights | None = None) -> float:
    """((mean_i max_j S_ij) + (mean_j max_i S_ij)) / 2, in [-1, 1], higher is more alike; MMCS of Sharkey et al. (2022), both directions averaged.

    Not a matching: a latent may be the nearest of many. With absolute=True it is also called PWMCC.
    weights  (of A [m_a], of B [m_b]), e.g. the activation mass of each latent: the means are then weighted."""
    both = max_cosines(a, b, absolute, weights=weights)
    return (both.a_in_b + both.b_in_a) / 2


def max_cosines(a: Rows, b: Rows, absolute: bool = False, *, weights: Weights | None = None) -> Directional:
    """The two directions of `mean_max_cosine`."""
    of_a, of_b = nearest(a, b, absolute=absolute)
    shares_a, shares_b = _shares(weights, len(of_a.cosine), len(of_b.cosine))
    return Directional(_within(of_a.cosine @ shares_a), _within(of_b.cosine @ shares_b))


def matched_cosine(
    a: Rows,
    b: Rows,
    absolute: bool = False,
    *,
    weights: Weights | None = None,
    largest: int = LARGEST_MATCHING,
) -> float:
    """Mean cosine of the one-to-one pairs of largest sum, in [-1, 1], higher is more alike; PW-MCC of Song et al. 2025 (arXiv:2505.20254) if absolute.

    Over min(m_a, m_b) pairs; latents that found no partner do not count, and dictionaries of unequal size have their own chance level.
    weights  as `mean_max_cosine`; a pair weighs what its two latents do, each as a share of its dictionary. Cost: see `hungarian`."""
    pairs = hungarian(a, b, absolute=absolute, largest=largest)
    shares_a, shares_b = _shares(weights, len(a), len(b))
    share = shares_a[pairs.a] + shares_b[pairs.b]
    if share.sum() <= 0:
        raise ValueError("no matched latent has any weight; are the weights those of other dictionaries?")
    return _within(pairs.cosine @ (share / share.sum()))


def shared_pairs(enc_a: Rows, dec_a: Rows, enc_b: Rows, dec_b: Rows, *, largest: int = LARGEST_MATCHING) -> SharedPairs:
    """Hungarian matching on the mean of the encoders' and the decoders' cosines (Paulo and Belrose 2025, arXiv:2501.16615).

    enc_a: [m_a, d_in], dec_a: [m_a, d_out], so also for b; a latent a row in both. ValueError where the two have different numbers of latents."""
    for name, enc, dec in (("a", enc_a, dec_a), ("b", enc_b, dec_b)):
        if len(enc) != len(dec):
            raise ValueError(
                f"coder {name} has {len(enc)} rows of encoder and {len(dec)} of decoder; both are [m, channels], so pass W_enc.T where it is [d_in, m]"
            )
    refuse_large(len(dec_a), len(dec_b), largest)
    encoder, decoder = cosines(enc_a, enc_b), cosines(dec_a, dec_b)
    pairs = assign((encoder + decoder) / 2)
    encoder, decoder = (side.double().cpu().numpy()[pairs.a, pairs.b] for side in (encoder, decoder))
    return SharedPairs(pairs.a, pairs.b, encoder, decoder)


def shared_fraction(enc_a: Rows, dec_a: Rows, enc_b: Rows, dec_b: Rows, at: float = 0.7) -> float:
    """Share of the pairs of `shared_pairs` of which both cosines are at least `at`, in [0, 1]. One cut of `SharedPairs.curve`."""
    return float(shared_pairs(enc_a, dec_a, enc_b, dec_b).curve(at))


def mutual_nearest(a: Rows, b: Rows, absolute: bool = False) -> MutualNearest:
    """Latents i and j with argmax_j' S_ij' = j and argmax_i' S_i'j = i; their share and mean cosine. One-to-one without the cost of a matching.

    Half of unrelated latents are mutual: a pair is if its cosine is the largest of the m_a + m_b - 1 in its row and column, so the share is near
    max(m_a, m_b) / (m_a + m_b - 1) by chance, whatever d. The order of latents does not matter, so permuting it is no null; `chance_level` and
    `rotated_chance` are."""
    of_a, of_b = nearest(a, b, absolute=absolute)
    rows = np.arange(len(of_a.row))
    kept = rows[of_b.row[of_a.row] == rows]
    pairs = Matching(kept, of_a.row[kept], of_a.cosine[kept])
    return MutualNearest(len(kept) / min(len(of_a.row), len(of_b.row)), _within(pairs.cosine.mean()), pairs)


def subspace_overlap(a: Rows, b: Rows, r: int) -> float:
    """||U_A^T U_B||_F^2 / r, the mean squared cosine of the principal angles of the leading r-dimensional row spaces; [0, 1].

    U: the first r right singular vectors [d, r] of the unit rows. Random directions show r/d exactly, and r = d shows 1 always.
    ValueError for r outside 1 .. min(m_a, m_b, d)."""
    widest = min(len(a), len(b), a.shape[1])
    if not 1 <= r <= widest:
        raise ValueError(f"a leading space has between 1 and min(m_a, m_b, d) = {widest} dimensions, got r={r}")
    one, two = (_leading(rows, r) for rows in (a, b))
    if one.shape != two.shape:
        raise ValueError(f"spaces of one width are compared, got d = {one.shape[0]} and {two.shape[0]}")
    return min(1.0, float((one.T @ two.to(one.device)).square().sum()) / r)


STATISTICS: dict[str, Callable[[Rows, Rows, bool], float]] = {
    "mean_max_cosine": mean_max_cosine,
    "matched_cosine": matched_cosine,
    "mutual_nearest": lambda a, b, absolute: mutual_nearest(a, b, absolute).fraction,
}


def chance_level(
    d: int,
    m: int | tuple[int, int],
    statistic: str | Statistic,
    rng: np.random.Generator,
    *,
    absolute: bool = False,
    draws: int = 10,
) -> Estimate:
    """What a statistic shows of unrelated Gaussian directions: its mean over pairs of random dictionaries [m, d], with a Student t interval.

    m          of both, or (m_a, m_b), as many latents as were compared: the alive ones
    statistic  a name of STATISTICS, or any function of two dictionaries, e.g. partial(subspace_overlap, r=8); `absolute` is for names
    draws      pairs drawn, at least 2. Of mean_max_cosine the expectation is known (`expected_max_cosine`): it is returned, and nothing is drawn

    Expectations with weights are the same: which random latent has which weight tells nothing of its direction."""
    sizes = (m, m) if isinstance(m, int) else m
    if statistic == "mean_max_cosine":
        value = float(np.mean([expected_max_cosine(d, size, absolute) for size in sizes]))
        return Estimate(value, min(sizes), 0.0, (value, value), method="exact, Gaussian directions")
    if draws < 2:
        raise ValueError(f"a chance level wants at least 2 draws to show its spread, got {draws}; 10 are usual")
    measure = named_statistic(statistic, absolute)
    values = [measure(*(gaussian_rows(size, d, rng) for size in sizes)) for _ in range(draws)]
    return _as_chance(values, "Gaussian directions")


def rotated_chance(
    a: Rows, b: Rows, statistic: str | Statistic, rng: np.random.Generator, *, absolute: bool = False, draws: int = 10
) -> Estimate:
    """What a statistic shows once B is turned at random: both keep their own geometry (duplicates, clusters), and lose what relates them.

    B Q with Q uniform on the orthogonal group of d channels, drawn anew for each pair. Where both lie in one subspace of fewer channels, that
    is lost as well."""
    if draws < 2:
        raise ValueError(f"a chance level wants at least 2 draws to show its spread, got {draws}; 10 are usual")
    measure, turned = named_statistic(statistic, absolute), unit_rows(b, "the second dictionary")
    values = []
    for _ in range(draws):
        Q, R = np.linalg.qr(rng.standard_normal((turned.shape[1], turned.shape[1])))
        Q *= np.sign(np.diagonal(R))  # without it QR prefers some rotations (Mezzadri 2007)
        values.append(measure(a, turned @ torch.from_numpy(Q).to(turned)))
    return _as_chance(values, "random rotations")


def named_statistic(statistic: str | Statistic, absolute: bool) -> Statistic:
    """The function of a name of STATISTICS, with its sign rule; a function is returned as it is."""
    if not isinstance(statistic, str):
        return statistic
    if statistic not in STATISTICS:
        raise ValueError(
            f"a similarity is one of {', '.join(STATISTICS)}, or a function of two dictionaries; got {statistic!r}"
        )
    measure = STATISTICS[statistic]
    return lambda a, b: measure(a, b, absolute)


def _as_chance(values: Sequence[float], of: str) -> Estimate:
    drawn = mean(values)
    return Estimate(
        drawn.value, drawn.n, drawn.stderr, drawn.ci, drawn.level, f"mean of {drawn.n} draws of {of}, Student t"
    )


def _within(value: ArrayLike) -> float:
    """A mean of cosines, whose rounding may not leave [-1, 1]."""
    return float(np.clip(value, -1, 1))


def _leading(rows: Rows, r: int) -> Float[Tensor, "d r"]:
    unit = unit_rows(rows).double()
    return torch.linalg.eigh(unit.T @ unit).eigenvectors[:, -r:]


def _shares(weights: Weights | None, m_a: int, m_b: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the latents of both, each adding up to 1."""
    if weights is None:
        return np.full(m_a, 1 / m_a), np.full(m_b, 1 / m_b)
    one, two = (np.asarray(side, dtype=np.float64) for side in weights)
    for name, side, m in (("first", one, m_a), ("second", two, m_b)):
        if side.shape != (m,) or not np.isfinite(side).all() or side.min() < 0 or side.sum() <= 0:
            raise ValueError(
                f"weights of the {name} dictionary are {m} numbers, none negative, some positive; got shape {side.shape}, sum {side.sum()}"
            )
    return one / one.sum(), two / two.sum()
