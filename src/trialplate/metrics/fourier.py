"""Whether an embedding of a cyclic group is made of few frequencies, and whether a decoder reads them: the known circuit of modular addition.

Symbols: n tokens 0 .. n-1, the elements of the group in order (and no other token); E [n, d] their embedding, E_c about its mean over tokens;
k = frequency in 1 .. floor(n/2); B [n, r] orthonormal columns cos(2 pi k t / n), sin(2 pi k t / n) of some frequencies.

Frequency 0 is the mean and no part of this. Frequencies k and n - k are one and the same: a basis that holds both is not orthonormal, and the share
of variance that it seems to explain is wrong, down to nothing for a perfect embedding. Here neither can be asked for, and columns are made
orthonormal before anything is projected. A share has to be read beside its null: unrelated tokens show r / (n - 1) for frequencies
chosen beforehand, and more for the best ones of their own (`permuted_share`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trialplate.metrics.cosines import Rows, unit_rows

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PermutedShare:
    """A share of variance beside the same of tokens in random order.

    share    of the tokens in their order
    null     [draws] of random orders, each with the best frequencies of its own
    p_value  (1 + draws of at least the share) / (1 + draws), one-sided

    `share - null.mean()` is the size of the effect."""

    share: float
    null: Float[np.ndarray, " draws"]
    p_value: float


def fourier_basis(n: int, frequencies: ArrayLike) -> Float[np.ndarray, "n r"]:
    """Orthonormal B: a cosine and a sine a frequency, in the order given; of n/2 (n even) the cosine alone, its sine being zero.

    ValueError for a frequency outside 1 .. n/2 or one that is there twice; n - k is a second name of k."""
    chosen = np.asarray(frequencies)
    if n < 2 or chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"a basis wants a group of at least 2 and a vector of whole frequencies, got n={n}, {chosen!r}"
        )
    if chosen.min() < 1 or chosen.max() > n // 2:
        raise ValueError(
            f"frequencies of {n} tokens are 1 .. {n // 2}, got {chosen.min()} .. {chosen.max()}: 0 is the mean, and k above {n // 2} is {n} - k again"
        )
    if np.unique(chosen).size != chosen.size:
        raise ValueError(f"each frequency stands once in a basis, got {chosen.tolist()}")
    angle = 2 * np.pi * np.outer(np.arange(n), chosen) / n  # [n, frequency]
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(n, -1)
    kept = np.ones(waves.shape[1], dtype=bool)
    kept[1::2] = 2 * chosen != n
    Q, R = np.linalg.qr(waves[:, kept])
    return Q * np.sign(np.diagonal(R))  # a cosine stays a cosine, whatever sign QR prefers


def frequency_shares(embedding: Rows) -> Float[np.ndarray, " half"]:
    """Share of ||E_c||^2 at frequencies 1 .. floor(n/2), adding up to 1; entry i is frequency i + 1. By rfft, of which each term but n/2 counts twice."""
    E = _centred(embedding)
    power = np.square(np.abs(np.fft.rfft(E, axis=0)))[1:].sum(axis=1)
    power[: (len(E) - 1) // 2] *= 2
    return power / power.sum()


def top_frequencies(embedding: Rows, count: int) -> Int[np.ndarray, " count"]:
    """The `count` frequencies of the largest shares, largest first. ValueError for more than there are."""
    shares = frequency_shares(embedding)
    if not 1 <= count <= len(shares):
        raise ValueError(f"there are {len(shares)} frequencies besides the mean, got count={count}")
    return np.argsort(-shares, kind="stable")[:count] + 1


def explained_by(embedding: Rows, basis: ArrayLike) -> float:
    """||B^T E_c||_F^2 / ||E_c||_F^2, the share of variance over tokens within the span of B [n, r]; in [0, 1].

    Of unrelated tokens r / (n - 1) on average, for r columns at right angles to the constant. ValueError for columns that are not orthonormal."""
    E, B = _centred(embedding), np.asarray(basis, dtype=np.float64)
    if B.ndim != 2 or len(B) != len(E):
        raise ValueError(f"a basis has a row for each of {len(E)} tokens, got shape {B.shape}")
    _check_orthonormal(B)
    return min(1.0, float(np.square(B.T @ E).sum() / np.square(E).sum()))


def permuted_share(embedding: Rows, count: int, rng: np.random.Generator, *, draws: int = 200) -> PermutedShare:
    """Share of the best `count` frequencies, and the same with tokens in random order, `draws` times.

    Choosing the best is part of the null: of white noise the best frequencies explain more than r / (n - 1)."""
    if draws < 1:
        raise ValueError(f"a permutation null wants draws, got {draws}; with 200 the least p is 1/201")
    E = _centred(embedding)

    def best(rows: Matrix) -> float:
        return float(np.sort(frequency_shares(rows))[::-1][:count].sum())

    share = explained_by(E, fourier_basis(len(E), top_frequencies(E, count)))
    null = np.array([best(E[rng.permutation(len(E))]) for _ in range(draws)])
    return PermutedShare(share, null, (1 + int((null >= share - 1e-12).sum())) / (1 + draws))


def model_subspace(embedding: Rows, basis: ArrayLike) -> Float[np.ndarray, "d rank"]:
    """Orthonormal columns that span E_c^T B: the directions of the model's space in which the embedding holds these frequencies.

    As many as B has columns unless E_c holds less of them; directions below 1e-6 of the largest are rounding and left out."""
    E, B = _centred(embedding), np.asarray(basis, dtype=np.float64)
    if B.ndim != 2 or len(B) != len(E):
        raise ValueError(f"a basis has a row for each of {len(E)} tokens, got shape {B.shape}")
    _check_orthonormal(B)
    U, sizes, _ = np.linalg.svd(E.T @ B, full_matrices=False)
    if sizes[0] <= 1e-6 * np.linalg.norm(E):
        raise ValueError(
            "the embedding holds nothing of these frequencies, so they span no direction; see frequency_shares"
        )
    return U[:, sizes > 1e-6 * sizes[0]]


def subspace_shares(decoder: Rows, subspace: ArrayLike) -> Float[np.ndarray, " m"]:
    """||U^T d_j||^2 / ||d_j||^2 of each decoder row d_j [d], the share of a latent's direction within a subspace U [d, r]; [0, 1].

    It depends on the plane of a frequency and not on the phase in it, as a cosine with single columns would. Random rows show r/d exactly."""
    rows, U = unit_rows(decoder, "the decoder").double().cpu().numpy(), np.asarray(subspace, dtype=np.float64)
    if U.ndim != 2 or len(U) != rows.shape[1]:
        raise ValueError(
            f"a subspace of decoder rows [m, d] has d = {rows.shape[1]} rows, got shape {U.shape}; nothing is transposed"
        )
    _check_orthonormal(U)
    return np.minimum(np.square(rows @ U).sum(axis=1), 1.0)


def _centred(embedding: Rows) -> Matrix:
    given = embedding.detach().double().cpu().numpy() if isinstance(embedding, Tensor) else embedding
    E = np.asarray(given, dtype=np.float64)
    if E.ndim != 2 or len(E) < 2 or not np.isfinite(E).all():
        raise ValueError(
            f"an embedding is finite, [n, d] with a row for each of at least 2 tokens; got shape {E.shape}"
        )
    centred = E - E.mean(axis=0)
    if np.abs(centred).max() <= 1e-12 * np.abs(E).max():
        raise ValueError("all tokens have the same embedding: nothing varies, so no frequency explains anything")
    return centred


def _check_orthonormal(columns: Matrix) -> None:
    off = float(np.abs(columns.T @ columns - np.eye(columns.shape[1])).max())
    if not off < 1e-6:
        raise ValueError(
            f"columns are orthonormal, got products up to {off:.3g} off; a frequency twice, or k beside n - k? make them with fourier_basis, or by QR"
        )
