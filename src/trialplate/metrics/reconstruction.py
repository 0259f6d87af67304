"""How well reconstructions stand for activations: sums in float64, taken in one pass, that can be merged.

Symbols: x [n, d] activations (for a transcoder: what it should have written), x' [n, d] what a coder made of them, r = x - x', E the mean over
tokens, b a batch (one call of `update`), N the n d elements. "Explained variance" (EV) is the name of many numbers; here each has its own:

    about_mean           1 - E|r|^2 / (E|x|^2 - |E x|^2)          share of the variance about the mean: predicting the mean is 0, identity is 1
    about_zero           1 - E|r|^2 / E|x|^2                      flattered by any mean that is not zero
    all_elements         1 - Var_N(r) / Var_N(x)                  over all elements at once: flattered by means that differ between channels
    dictionary_learning  mean_b of 1 - sum_d Var_b(r_d) / sum_d Var_b(x_d)      a constant error is forgiven
    sparsify             mean_b of 1 - E_b|r|^2 / E_b|x - E_b x|^2              1 - fvu, about the mean of each batch
    saebench             1 - mean_b E_b|r|^2 / (q - (q / d)^2), q = mean_b E_b|x|^2     changes when a constant is added to everything
    saebench_legacy      E of 1 - |r|^2 / |x - E_b x|^2           mean of the ratios of tokens: one token near the mean makes it what it likes

The first is the definition of this project. The others are what tools of these names print (dictionary_learning of 2025, sparsify of 2026,
SAEBench 0.6), for comparison with numbers that were published; the last four depend on how rows were dealt into batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Definition = Literal[
    "about_mean", "about_zero", "all_elements", "dictionary_learning", "sparsify", "saebench", "saebench_legacy"
]
DEFINITIONS: tuple[str, ...] = get_args(Definition)
TERMS = ("squared_error", "cosine", "l2_in", "l2_out", "l2_ratio", "square_out", "dot")
_SMALLEST_NORM = 1e-4


def explained_variance(
    x: Float[Tensor, "n d"], x_hat: Float[Tensor, "n d"], definition: Definition = "about_mean"
) -> float:
    """EV of one batch by a definition of the table above. ValueError for shapes that differ, values that are not finite, no variance."""
    sums = ReconstructionSums()
    sums.update(x, x_hat)
    return sums.explained_variance(definition)


def token_terms(x: Float[Tensor, "n d"], x_hat: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, " n"]]:
    """What each token brings to the means below, float64 [n]: |r|^2, cos(x, x'), |x|, |x'|, |x'| / |x|, |x'|^2, <x, x'>.

    A vector of zeros has no direction: its cosine counts as 0. The ratio divides by 1 where |x| < 1e-4, as SAEBench does."""
    x, x_hat = _double(x), _double(x_hat)
    dot, l2_in, l2_out = (x * x_hat).sum(1), x.norm(dim=1), x_hat.norm(dim=1)
    both = l2_in * l2_out
    return {
        "squared_error": (x - x_hat).square_().sum(1),
        "cosine": torch.where(both > 0, dot / both, 0.0),
        "l2_in": l2_in,
        "l2_out": l2_out,
        "l2_ratio": l2_out / torch.where(l2_in < _SMALLEST_NORM, 1.0, l2_in),
        "square_out": l2_out.square(),
        "dot": dot,
    }


@dataclass(frozen=True)
class Moments:
    """Number, mean [d] and squared distances from it summed over tokens and channels: what is left of rows. Mergeable (Chan et al. 1979)."""

    n: int
    mean: Float[Tensor, " d"]
    scatter: float

    @classmethod
    def of(cls, rows: Float[Tensor, "n d"]) -> Moments:
        """Of rows in float64. Sums are taken about the first row: equal rows have a scatter of exactly 0, and a large mean costs no digits."""
        shifted = rows - rows[0]
        centre = shifted.mean(0)
        return cls(len(rows), rows[0] + centre, float((shifted - centre).square_().sum()))

    def merged(self, other: Moments) -> Moments:
        """Of the rows of both."""
        n = self.n + other.n
        gap = other.mean - self.mean
        scatter = self.scatter + other.scatter + float(gap.square().sum()) * self.n * other.n / n
        return Moments(n, self.mean + gap * (other.n / n), scatter)

    def over_elements(self) -> float:
        """Squared distances of all elements from their one mean."""
        return self.scatter + self.n * float((self.mean - self.mean.mean()).square().sum())


@dataclass
class _Batches:
    """Sums over batches of what the batchwise definitions average; `legacy` over tokens. A batch without variance makes them not finite."""

    n: int = 0
    square_error: float = 0.0
    square_in: float = 0.0
    dictionary_learning: float = 0.0
    sparsify: float = 0.0
    legacy: float = 0.0

    def add(self, other: _Batches) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class ReconstructionSums:
    """The sums behind every number of this page. `update` takes a batch, `merge` what others have taken; then ask.

    Asking before anything was taken is a ValueError, as is what is undefined (no variance, no direction)."""

    x: Moments | None = None
    residual: Moments | None = None
    terms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    _batches: _Batches = field(default_factory=_Batches)

    def update(self, x: Float[Tensor, "n d"], x_hat: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, " n"]]:
        """Take one batch. Returns its `token_terms`, for sums of other kinds.

        ValueError for shapes that differ, no rows, or values that are not finite."""
        _require_pair(x, x_hat)
        x, x_hat = _double(x), _double(x_hat)
        terms = token_terms(x, x_hat)
        if not math.isfinite(float(terms["squared_error"].sum())):
            bad = int((~torch.isfinite(terms["squared_error"])).sum())
            raise ValueError(f"{bad} of {len(x)} tokens have activations or reconstructions that are not finite")
        moments, residual = Moments.of(x), Moments.of(x - x_hat)
        totals = {name: float(term.sum()) for name, term in terms.items()}
        batch = _batchwise(x, moments.mean, terms["squared_error"], residual.scatter)
        self.merge(ReconstructionSums(moments, residual, totals, batch))
        return terms

    def merge(self, other: ReconstructionSums) -> None:
        """Take what another has taken. ValueError for another width."""
        if other.x is None or other.residual is None:
            return
        if self.x is None or self.residual is None:
            self.x, self.residual = other.x, other.residual
        elif len(self.x.mean) != len(other.x.mean):
            raise ValueError(f"sums of {len(self.x.mean)} channels cannot be merged with those of {len(other.x.mean)}")
        else:
            self.x, self.residual = self.x.merged(other.x), self.residual.merged(other.residual)
        for name in TERMS:
            self.terms[name] += other.terms[name]
        self._batches.add(other._batches)

    @property
    def n_tokens(self) -> int:
        """Tokens taken."""
        return self._moments()[0].n

    def explained_variance(self, definition: Definition = "about_mean") -> float:
        """EV by a definition of the table above; at most 1, not bounded below."""
        if definition not in DEFINITIONS:
            raise ValueError(f"wanted a definition of {', '.join(DEFINITIONS)}, got {definition!r}")
        x, residual = self._moments()
        batches, lost = self._batches, self.terms["squared_error"]
        if definition == "about_mean":
            return 1 - lost / self._variance(x.scatter, definition)
        if definition == "about_zero":
            return 1 - lost / self._variance(x.scatter + x.n * float(x.mean.square().sum()), definition)
        if definition == "all_elements":
            return 1 - residual.over_elements() / self._variance(x.over_elements(), definition)
        if definition == "saebench":
            square = batches.square_in / batches.n
            there = self._variance(square - (square / len(x.mean)) ** 2, definition)
            return 1 - batches.square_error / batches.n / there
        if definition == "saebench_legacy":
            return self._finite(batches.legacy / x.n, definition)
        return self._finite(getattr(batches, definition) / batches.n, definition)

    def mse(self, per: Literal["token", "element"] = "token") -> float:
        """E|r|^2, the squared distance of a token; per element that is divided by d."""
        if per not in ("token", "element"):
            raise ValueError(f"a mean squared error is one per token or per element, got per={per!r}")
        width = 1 if per == "token" else len(self._moments()[0].mean)
        return self.mean("squared_error") / width

    def mean(self, term: str) -> float:
        """E of one of the TERMS: cosine, l2_in, l2_out, l2_ratio ..."""
        return self.terms[term] / self.n_tokens

    def bias(self) -> float:
        """Relative reconstruction bias E|x'|^2 / E<x, x'>: below 1 where reconstructions are too short (Rajamanoharan et al. 2024, eq. 10)."""
        _ = self.n_tokens
        if self.terms["dot"] == 0:
            raise ValueError("the reconstruction bias is undefined: reconstructions have nothing in common with x")
        return self.terms["square_out"] / self.terms["dot"]

    def _moments(self) -> tuple[Moments, Moments]:
        if self.x is None or self.residual is None:
            raise ValueError("no token was taken, so there is nothing to say of reconstructions; update first")
        return self.x, self.residual

    def _variance(self, there: float, definition: str) -> float:
        if not there > 0:
            raise ValueError(
                f"explained variance ({definition}) is undefined: what it divides by is {there:.6g} over {self.n_tokens} tokens; "
                "wanted activations that differ from token to token"
            )
        return there

    def _finite(self, value: float, definition: str) -> float:
        if not math.isfinite(value):
            raise ValueError(
                f"explained variance ({definition}) is undefined: a batch, or a token of one, does not differ from the mean of its batch"
            )
        return value


def _batchwise(x: Tensor, mean: Tensor, squared_error: Tensor, residual_scatter: float) -> _Batches:
    """As a batch of its own. Tensors divide by zero without complaint: what is undefined is an error when it is asked for."""
    distance = (x - mean).square_().sum(1)
    error, scatter = squared_error.sum(), distance.sum()
    return _Batches(
        n=1,
        square_error=float(squared_error.mean()),
        square_in=float(x.square().sum(1).mean()),
        dictionary_learning=float(1 - residual_scatter / scatter),
        sparsify=float(1 - error / scatter),
        legacy=float((1 - squared_error / distance).sum()),
    )


def _require_pair(x: Tensor, x_hat: Tensor) -> None:
    if x.ndim != 2 or x.shape != x_hat.shape:
        raise ValueError(
            f"wanted activations and reconstructions [n, d] of one shape, got {list(x.shape)} and {list(x_hat.shape)}"
        )
    if x.numel() == 0:
        raise ValueError(f"no token to reconstruct: got activations of shape {list(x.shape)}")


def _double(rows: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none."""
    return (rows.detach().cpu() if rows.device.type == "mps" else rows.detach()).double()
