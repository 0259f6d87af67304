"""How a layer with slots routes its reads: spread, preference, inertia, principal axes, and what single heads are like.

Symbols: p = read weights, probabilities over K slots; z = read logits; a "row" is one (prompt, head, position).
Everything is computed in float64 on the CPU. ValueError for input that is empty, not finite, or no probabilities where those are meant."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

HEAD_FEATURES = ("next_cosine", "mean_cosine", "cosine_trend", "entropy", "perplexity", "top4_mass")


def valid_rows(
    weights: Float[Tensor, "batch head seq slot"], mask: Bool[Tensor, "batch seq"] | None = None
) -> Float[Tensor, "row slot"]:
    """The rows at valid positions (mask non-zero; all without a mask), every head one row: what the measures below take."""
    if weights.ndim != 4:
        raise ValueError(f"read weights are [batch, head, seq, slot], got shape {tuple(weights.shape)}")
    by_position = weights.transpose(1, 2)  # [batch, seq, head, slot]
    if mask is not None:
        by_position = by_position[mask.to(torch.bool)]
    return by_position.reshape(-1, weights.shape[-1])


def read_entropy(weights: Float[Tensor, "row slot"]) -> float:
    """Mean over rows of -sum_k p ln p in nats (0 ln 0 = 0); from 0 (one slot each) to ln K (all slots alike)."""
    return _entropies(_probabilities(weights)).mean().item()


def top1_frequency(weights: Float[Tensor, "row slot"]) -> float:
    """Share of rows whose largest weight sits on the slot that is most often the largest; from 1/K to 1 (one slot serves all)."""
    choices = _probabilities(weights).argmax(-1)
    return (torch.bincount(choices).max() / choices.numel()).item()


def slot_usage(weights: Float[Tensor, "row slot"]) -> Float[Tensor, " slot"]:
    """Mean read weight of each slot, float64; adds up to 1."""
    return _probabilities(weights).mean(0)


def usage_perplexity(weights: Float[Tensor, "row slot"]) -> float:
    """Slots in use: exp of the entropy of the mean weights, from 1 to K. All slots may be in use although each row reads one."""
    return math.exp(_entropies(slot_usage(weights).unsqueeze(0)).item())


def policy_inertia(
    weights: Float[Tensor, "batch head seq slot"],
    mask: Bool[Tensor, "batch seq"] | None = None,
    max_lag: int = 64,
) -> list[float]:
    """Mean cosine between the read weights at t and t + lag, lags 1, 2, ... up to max_lag or as far as any valid pair reaches.

    Pairs of valid positions of one prompt and head count equally. Weights are not negative, so values lie in [0, 1]."""
    if weights.ndim != 4 or weights.shape[2] < 2:
        raise ValueError(
            f"inertia compares positions of [batch, head, seq, slot], seq >= 2; got {tuple(weights.shape)}"
        )
    unit = torch.nn.functional.normalize(weights.detach().double().cpu(), dim=-1)
    batch, _, length, _ = unit.shape
    valid = torch.ones(batch, length, dtype=torch.bool) if mask is None else mask.to("cpu", torch.bool)
    curve = []
    for lag in range(1, min(max_lag, length - 1) + 1):
        pairs = valid[:, :-lag] & valid[:, lag:]
        if not pairs.any():
            break
        cosines = (unit[:, :, :-lag] * unit[:, :, lag:]).sum(-1)  # [batch, head, pair]
        curve.append(cosines.transpose(1, 2)[pairs].mean().item())
    if not curve:
        raise ValueError("inertia needs a prompt with two valid positions; the mask leaves at most one in each")
    return curve


def half_life(curve: list[float], level: float = 0.9) -> float | None:
    """The lag at which an inertia curve (lags 1, 2, ...) first falls to `level`, linear between lags; lag 0 has cosine 1.

    None where it never does: then it is longer than the longest lag."""
    if not curve:
        raise ValueError("the half-life of an empty curve is undefined; pass what policy_inertia returned")
    before = 1.0
    for lag, value in enumerate(curve, start=1):
        if value <= level:
            return lag - 1 + (before - level) / (before - value) if before > value else float(lag)
        before = value
    return None


def explained_variance_ratios(points: Float[Tensor, "point dim"], n: int = 3) -> list[float]:
    """Share of the variance along each of the first n principal components, s_i^2 / sum s^2 of the centred points.

    The eigenvalues of the covariance give the same shares. At least 2 points that differ; fewer components than n: shorter list."""
    values = torch.linalg.svdvals(_centred(points)).square()
    total = values.sum()
    if total <= 0:
        raise ValueError(
            f"all {points.shape[0]} points are equal, so no direction explains anything; is the layer alive?"
        )
    return (values / total)[:n].tolist()


def attractor_sharpness(ends: Float[Tensor, "prompt dim"], margins: Float[Tensor, " prompt"]) -> float | None:
    """Pearson correlation over prompts of closeness to an attractor with the margin; in [-1, 1], 1 = the nearer the larger.

    The attractor is the centroid of the end points weighted by sigmoid(margin), closeness the negative distance to it. None where
    it is undefined: all margins equal, or all distances."""
    points, values = _finite("end points", ends), _finite("margins", margins)
    if points.ndim != 2 or values.shape != points.shape[:1] or len(values) < 3:
        raise ValueError(
            f"sharpness wants one end point and one margin for each of at least 3 prompts, got {tuple(points.shape)} and {tuple(values.shape)}"
        )
    weights = torch.sigmoid(values)
    centroid = (weights.unsqueeze(1) * points).sum(0) / weights.sum()
    closeness = -(points - centroid).norm(dim=1)
    pair = torch.stack([closeness, values])
    if bool((pair.std(dim=1) <= 1e-12 * (1 + pair.abs().amax(1))).any()):
        return None
    return torch.corrcoef(pair)[0, 1].item()


def slope_through_origin(
    sizes: Float[Tensor, " size"], changes: Float[Tensor, "size prompt"]
) -> Float[Tensor, " prompt"]:
    """Least-squares slope of each column of changes against sizes without an intercept: sum s c / sum s^2."""
    steps, moved = _finite("sizes", sizes), _finite("changes", changes)
    if moved.shape[:1] != steps.shape or not bool((steps != 0).any()):
        raise ValueError(
            f"a slope wants one row of changes for each size, one size not 0; got {steps.tolist()} and {tuple(moved.shape)}"
        )
    return steps @ moved / (steps @ steps)


def head_features(weights: Float[Tensor, "head seq slot"]) -> NDArray[np.float64]:
    """[head, 6] features of each head, every row of length 1: HEAD_FEATURES names the columns.

    Of p_t averaged over prompts: mean cosine of p_t and p_{t+1}; mean of the mean cosines at lags 1 to 16; slope of mean cosine
    against lag in standard deviations (0 for a single lag); mean entropy in nats; exp of it; mean mass of the 4 largest."""
    if weights.ndim != 3 or weights.shape[1] < 2:
        raise ValueError(f"head features want [head, seq, slot] with seq >= 2, got {tuple(weights.shape)}")
    p = _probabilities(weights)
    rows = []
    for head in p:
        curve = np.asarray(policy_inertia(head[None, None], max_lag=16))
        entropy = _entropies(head).mean().item()
        top = head.topk(min(4, head.shape[-1]), dim=-1).values.sum(-1).mean().item()
        rows.append([curve[0], curve.mean(), _trend(curve), entropy, math.exp(entropy), top])
    table = np.asarray(rows)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


class HeadMatch(NamedTuple):
    """`partner[i]` is the head of the second layer that goes with head i of the first; mean cosines of the best and of the identity matching."""

    partner: tuple[int, ...]
    best: float
    diag: float


def match_heads(first: NDArray[np.float64], second: NDArray[np.float64]) -> HeadMatch:
    """The one-to-one matching of two layers' heads with the largest mean cosine of `head_features` (Hungarian method)."""
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"matching wants two tables [head, feature] of one shape, got {first.shape} and {second.shape}"
        )
    cosines = first @ second.T
    rows, columns = linear_sum_assignment(-cosines)
    return HeadMatch(
        tuple(int(c) for c in columns), float(cosines[rows, columns].mean()), float(np.diag(cosines).mean())
    )


def _trend(curve: NDArray[np.float64]) -> float:
    """Least-squares slope of a curve against its index in standard deviations; 0 for a single value."""
    if curve.size < 2:
        return 0.0
    index = np.arange(curve.size) - (curve.size - 1) / 2
    return float((index / index.std() * curve).mean())


def _entropies(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _centred(points: Tensor) -> Tensor:
    values = _finite("points", points)
    if values.ndim != 2 or values.shape[0] < 2:
        raise ValueError(f"principal components want at least 2 points [point, dim], got shape {tuple(values.shape)}")
    return values - values.mean(0)


def _finite(name: str, tensor: Tensor) -> Tensor:
    values = tensor.detach().double().cpu()
    if values.numel() == 0 or not bool(values.isfinite().all()):
        wrong = int((~values.isfinite()).sum())
        raise ValueError(f"{name} must be finite and not empty: {wrong} of {values.numel()} values are NaN or infinite")
    return values


def _probabilities(weights: Tensor) -> Tensor:
    p = _finite("read weights", weights)
    sums = p.sum(-1)
    # half precision keeps about three digits of each weight
    if bool((p < 0).any()) or not bool(((sums - 1).abs() < 0.02).all()):
        raise ValueError(
            f"read weights are probabilities over slots, got row sums from {sums.min():.4g} to {sums.max():.4g} and minimum {p.min():.4g}; "
            "pass the weights, not the logits"
        )
    return p
