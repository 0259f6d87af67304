"""Heads across layers: which head of one layer routes like which head of the next, and how long routing stays what it was."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from trialplate.metrics.routing import half_life, head_features, match_heads, policy_inertia
from trialplate.routing.undisturbed import Undisturbed


@dataclass(frozen=True, slots=True)
class HeadAlignment:
    """`tracks[l][h]`: the head of layer l that head h of the first layer leads to, matching by matching.

    `best[l]`, `diag[l]`: mean cosine of features between layers l and l + 1 under the best and the identity matching; in [-1, 1]."""

    tracks: tuple[tuple[int, ...], ...]
    best: tuple[float, ...]
    diag: tuple[float, ...]


def align_heads(seen: Undisturbed) -> HeadAlignment:
    """Match the heads of adjacent layers by their features (`metrics.routing.head_features`) and follow them from the first layer."""
    features = [head_features(mean_weights(seen, layer)) for layer in range(seen.n_layers)]
    matches = [match_heads(one, two) for one, two in pairwise(features)]
    tracks = [tuple(range(len(features[0])))]
    for match in matches:
        tracks.append(tuple(match.partner[head] for head in tracks[-1]))
    return HeadAlignment(tuple(tracks), tuple(m.best for m in matches), tuple(m.diag for m in matches))


def mean_weights(seen: Undisturbed, layer: int) -> Float[Tensor, "head seq slot"]:
    """Read weights averaged over the prompts that are valid at each position."""
    weight = seen.mask[:, None, :, None].to(seen.read_weights[layer])
    return (seen.read_weights[layer] * weight).sum(0) / weight.sum(0)


def inertia(seen: Undisturbed, layer: int, max_lag: int = 64) -> tuple[list[float], float | None]:
    """The inertia curve of a layer, lags 1, 2, ..., and the lag at which it falls to 0.9 (None where it does not)."""
    curve = policy_inertia(seen.read_weights[layer], seen.mask, max_lag)
    return curve, half_life(curve)
