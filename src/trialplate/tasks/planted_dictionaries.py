"""Activations whose features are known: sparse non-negative codes, a dictionary of directions, noise. The truth that coders are tested on.

Symbols: g features in d channels (g > d is superposition), n tokens; a = codes [n, g], T = features [g, d]; x = a T + noise. Kinds:

    independent   features do not know of each other
    correlated    features of one group fire together: each follows a Gaussian threshold that shares a part of its variance with its group
    hierarchical  a child fires only where its parent does, and most of a parent's firing is with one of its children, so that a sparse coder
                  gains by writing the parent into the child's latent and letting the parent's own fall silent there (absorption)

In all kinds the mean number of active features a token is `active`, rates may be uneven, and one generator makes everything."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

Kind = Literal["independent", "correlated", "hierarchical"]
KINDS: tuple[str, ...] = get_args(Kind)
_MOST = 0.5  # largest rate of a feature: one that is mostly on is a mean, not a feature
_QUIETEST, _LOUDEST = 0.5, 2.0  # scales of features where magnitudes are uneven


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """Rows to train a coder on, and the truth.

    x         [n, d] float32
    features  [g, d] float32, unit rows
    codes     [n, g] float32, non-negative; 0 where a feature is not active
    parents   [g] the feature that must be active for this one, -1 for none
    groups    [g] the group within which features are related; each is a group of its own where kinds have none
    rates     [g] the probability that a feature is active
    kind      as asked for"""

    x: Float[np.ndarray, "n d"]
    features: Float[np.ndarray, "g d"]
    codes: Float[np.ndarray, "n g"]
    parents: Int[np.ndarray, " g"]
    groups: Int[np.ndarray, " g"]
    rates: Float[np.ndarray, " g"]
    kind: str


def planted(
    kind: Kind,
    n_features: int,
    d: int,
    n_tokens: int,
    active: float,
    rng: np.random.Generator,
    noise: float = 0.0,
    *,
    skew: float = 0.0,
    uneven: bool = False,
    orthogonal: bool = False,
    group: int = 4,
    together: float = 0.8,
) -> Planted:
    """n tokens of d channels with g = n_features planted.

    active      mean number of active features a token
    noise       standard deviation of Gaussian noise in each channel; an active feature has a mean size of 1 (of its scale, where uneven)
    skew        rates fall as rank^-skew (of families, where hierarchical); 0: all alike, 1: Zipf
    uneven      each feature has a scale of its own, log-uniform between 0.5 and 2
    orthogonal  directions at right angles, which wants g <= d; otherwise uniform on the sphere
    group       features of a group that fire together, or a parent with its children; the last group may be smaller
    together    correlated: share of variance that a group's thresholds have in common, in [0, 1);
                hierarchical: probability that an active parent comes with a child, one of its children at random, in (0, 1]

    Sizes of an active feature are uniform between 0.5 and 1.5 times its scale. ValueError for sizes below 1, `active` that would make a feature be
    active more than half of the time, and anything outside its range."""
    _check(kind, (n_features, d, n_tokens, group), active, noise, skew, together)
    features = _directions(n_features, d, orthogonal, rng)
    groups, parents = _relations(kind, n_features, group)
    if kind == "hierarchical":
        rates = _family_rates(parents, groups, active, skew, together, rng)
        fires = _families_fire(parents, rates, n_tokens, together, rng)
    else:
        rates = _rates(n_features, active, skew, rng)
        fires = _groups_fire(rates, groups, n_tokens, 0.0 if kind == "independent" else together, rng)
    codes = _sized(fires, uneven, rng)
    x = codes @ features
    if noise > 0:
        x += noise * rng.standard_normal(x.shape, dtype=np.float32)
    return Planted(x, features, codes, parents, groups, rates, kind)


def _check(kind: str, sizes: tuple[int, ...], active: float, noise: float, skew: float, together: float) -> None:
    if kind not in KINDS:
        raise ValueError(f"a planted dictionary is one of {', '.join(KINDS)}, got {kind!r}")
    if min(sizes) < 1:
        raise ValueError(f"features, channels, tokens and group are at least 1 each, got {sizes}")
    if not (active > 0 and 0 <= noise < np.inf and 0 <= skew < np.inf):
        raise ValueError(f"wanted active > 0, noise >= 0 and skew >= 0, got {active}, {noise} and {skew}")
    if not 0 <= together <= 1 or (kind, together) in {("correlated", 1), ("hierarchical", 0)}:
        raise ValueError(
            f"together is a share between 0 and 1; below 1 for correlated features (a group would be one feature), above 0 for hierarchical ones "
            f"(no child would fire); got {together}"
        )


def _relations(kind: str, g: int, group: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(group, parent or -1) of every feature; the first of a family is its parent."""
    groups = np.arange(g) // (1 if kind == "independent" else group)
    first = groups * group
    return groups, np.where((kind != "hierarchical") | (np.arange(g) == first), -1, first)


def _sized(fires: Bool[np.ndarray, "n g"], uneven: bool, rng: np.random.Generator) -> Float[np.ndarray, "n g"]:
    g = fires.shape[1]
    scale = np.exp(rng.uniform(np.log(_QUIETEST), np.log(_LOUDEST), g)) if uneven else np.ones(g)
    return np.where(fires, rng.uniform(0.5, 1.5, fires.shape) * scale, 0).astype(np.float32)


def _directions(g: int, d: int, orthogonal: bool, rng: np.random.Generator) -> Float[np.ndarray, "g d"]:
    if orthogonal and g > d:
        raise ValueError(
            f"{g} directions at right angles do not fit into {d} channels; leave orthogonal out, or take more channels"
        )
    rows = rng.standard_normal((g, d))
    if orthogonal:
        rows = np.linalg.qr(rows.T)[0].T
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _rates(g: int, active: float, skew: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rates that add up to `active`, in random order of size: a feature's group must not tell its rate."""
    falling = np.arange(1, g + 1) ** -float(skew)
    return _within_half(rng.permutation(falling * (active / falling.sum())), active)


def _family_rates(
    parents: NDArray[np.intp],
    groups: NDArray[np.intp],
    active: float,
    skew: float,
    together: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """A parent of rate r has children of rate r * together / children; all rates add up to `active`."""
    children = np.bincount(groups) - 1
    falling = rng.permutation(np.arange(1, len(children) + 1) ** -float(skew))
    share = np.where(children > 0, together, 0.0)
    of_parent = falling * (active / (falling * (1 + share)).sum())
    of_child = of_parent * share / np.maximum(children, 1)
    return _within_half(np.where(parents < 0, of_parent[groups], of_child[groups]), active)


def _within_half(rates: NDArray[np.float64], active: float) -> NDArray[np.float64]:
    if rates.max() > _MOST:
        raise ValueError(
            f"{active} active of {len(rates)} features would make one active {rates.max():.0%} of the time, above {_MOST:.0%}; "
            "lower active or skew, or plant more features"
        )
    return rates


def _groups_fire(
    rates: NDArray[np.float64], groups: NDArray[np.intp], n_tokens: int, together: float, rng: np.random.Generator
) -> Bool[np.ndarray, "n g"]:
    """Feature i fires where sqrt(c) u_group + sqrt(1 - c) e_i exceeds the quantile 1 - rate_i of a standard normal, so it keeps its rate whatever c."""
    if together == 0:
        return rng.random((n_tokens, len(rates))) < rates
    threshold = np.array([-NormalDist().inv_cdf(rate) for rate in rates])
    of_group = rng.standard_normal((n_tokens, int(groups.max()) + 1))
    own = rng.standard_normal((n_tokens, len(rates)))
    return np.sqrt(together) * of_group[:, groups] + np.sqrt(1 - together) * own > threshold


def _families_fire(
    parents: NDArray[np.intp], rates: NDArray[np.float64], n_tokens: int, together: float, rng: np.random.Generator
) -> Bool[np.ndarray, "n g"]:
    """A parent fires at its rate; with probability `together` one of its children, drawn at random, fires with it."""
    fires = np.zeros((n_tokens, len(rates)), dtype=bool)
    for parent in np.flatnonzero(parents < 0).tolist():
        on = np.flatnonzero(rng.random(n_tokens) < rates[parent])
        fires[on, parent] = True
        children = np.flatnonzero(parents == parent)
        if children.size:
            with_child = on[rng.random(on.size) < together]
            fires[with_child, rng.choice(children, with_child.size)] = True
    return fires
