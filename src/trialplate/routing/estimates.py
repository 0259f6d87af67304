"""From slopes of single prompts to statements: means over prompts with bootstrap intervals, contrasts with controls, shares, the null.

Target prompts are the observations. A control prompt is moved along the same directions and enters only the contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import bootstrap, difference
from trialplate.routing.comparison import ArmResult, LayerComparison, RoutingVersusResidual
from trialplate.routing.matching import MATCHES, Match

DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class LayerEstimates:
    """Estimates at one layer, over target prompts unless they say otherwise; slopes in logits a unit of size.

    routing, residual, residual_free   mean slopes; `residual` under the freezing of the run
    difference     routing minus residual, prompt by prompt
    routing_share  |mean routing| / (|mean routing| + |mean residual|), in [0, 1]; None where both are 0. `_by_match`: in every
                   unit that has a meaning here, since the verdict can depend on it
    *_contrast     target prompts minus controls; None without controls
    *_rising       share of target prompts whose margin rises at every size; *_linear: share of the variance of its changes that a
                   straight line through the start explains, median over prompts, None where nothing changes"""

    layer: int
    routing: Estimate
    residual: Estimate
    residual_free: Estimate
    difference: Estimate
    routing_share: Estimate | None
    routing_share_by_match: dict[Match, Estimate]
    routing_contrast: Estimate | None
    residual_contrast: Estimate | None
    routing_rising: float
    residual_rising: float
    routing_linear: float | None
    residual_linear: float | None


def estimate_layers(compared: RoutingVersusResidual, seed: int, draws: int = DRAWS) -> list[LayerEstimates]:
    """Estimates of every layer that was compared; `seed` draws the bootstrap."""
    counted = ~compared.is_control.numpy()
    rng = np.random.default_rng(seed)
    sizes = torch.tensor(compared.settings.sizes, dtype=torch.float64)
    return [_layer(layer, compared.settings.match, counted, sizes, rng, draws) for layer in compared.layers]


def margin_contrast(compared_margins: Float[Tensor, " prompt"], is_control: Tensor) -> Estimate | None:
    """Mean margin of target prompts minus that of controls (Welch); None without controls."""
    values, control = compared_margins.double().numpy(), is_control.numpy()
    return difference(values[~control], values[control]) if control.any() else None


def mean_over_prompts(values: Float[Tensor, " prompt"], seed: int, draws: int = DRAWS) -> Estimate:
    """Mean with a percentile bootstrap over prompts."""
    return bootstrap(values.double().numpy(), np.mean, np.random.default_rng(seed), draws)


@dataclass(frozen=True, slots=True)
class NullBand:
    """What random weights give at one layer, over several random models: mean, and the central 95 % of bootstrapped means, pooled."""

    layer: int
    quantity: str
    mean: float
    low: float
    high: float
    n_models: int


NULL_QUANTITIES = ("routing", "residual", "routing_share")


def null_bands(twins: Sequence[RoutingVersusResidual], seed: int, draws: int = DRAWS) -> list[NullBand]:
    """Bands of the two mean slopes and of the routing share, for every layer, from the same experiment on random models."""
    bands = []
    for index, layer in enumerate(twins[0].layers):
        pairs = [_pairs(twin.layers[index], twin.settings.match, ~twin.is_control.numpy()) for twin in twins]
        rng = np.random.default_rng(seed)
        drawn = np.concatenate([pair[rng.integers(0, len(pair), (draws, len(pair)))].mean(1) for pair in pairs])
        means = np.stack([pair.mean(0) for pair in pairs])
        for quantity in NULL_QUANTITIES:
            values, centre = _quantity(drawn, quantity), _quantity(means, quantity)
            low, high = np.quantile(values, [0.025, 0.975])
            bands.append(NullBand(layer.layer, quantity, float(centre.mean()), float(low), float(high), len(twins)))
    return bands


def _quantity(means: NDArray[np.float64], quantity: str) -> NDArray[np.float64]:
    if quantity == "routing_share":
        return _share(means[:, None], axis=1)
    return means[:, NULL_QUANTITIES.index(quantity)]


def _layer(
    layer: LayerComparison,
    match: Match,
    counted: NDArray[np.bool_],
    sizes: Tensor,
    rng: np.random.Generator,
    draws: int,
) -> LayerEstimates:
    pairs = _pairs(layer, match, counted)

    def mean(values: NDArray[np.float64]) -> Estimate:
        return bootstrap(values, np.mean, rng, draws)

    def contrast(arm: ArmResult) -> Estimate | None:
        slopes = arm.slopes(match).numpy()
        return None if counted.all() else difference(slopes[counted], slopes[~counted])

    shares = {
        kind: bootstrap(of_kind, _share, rng, draws)
        for kind in MATCHES
        if kind in layer.routing.units
        and kind in layer.residual.units
        and np.abs((of_kind := _pairs(layer, kind, counted)).mean(0)).sum() > 0
    }
    return LayerEstimates(
        layer.layer,
        routing=mean(pairs[:, 0]),
        residual=mean(pairs[:, 1]),
        residual_free=mean(layer.residual_free.slopes(match).numpy()[counted]),
        difference=mean(pairs[:, 0] - pairs[:, 1]),
        routing_share=shares.get(match),
        routing_share_by_match=shares,
        routing_contrast=contrast(layer.routing),
        residual_contrast=contrast(layer.residual),
        routing_rising=_rising(layer.routing, counted),
        residual_rising=_rising(layer.residual, counted),
        routing_linear=_linear(layer.routing, counted, sizes),
        residual_linear=_linear(layer.residual, counted, sizes),
    )


def _pairs(layer: LayerComparison, match: Match, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[target prompt, (routing, residual)] slopes."""
    return np.stack([layer.routing.slopes(match).numpy(), layer.residual.slopes(match).numpy()], axis=1)[counted]


def _share(pairs: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """[draw] share of routing in the two absolute mean slopes; 0.5 for a draw in which both are 0."""
    means = np.abs(pairs.mean(axis=axis))
    total = means.sum(-1)
    return np.where(total > 0, means[..., 0] / np.where(total > 0, total, 1.0), 0.5)


def _rising(arm: ArmResult, counted: NDArray[np.bool_]) -> float:
    return float((arm.margins.diff(dim=0) > 0).all(0).numpy()[counted].mean())


def _linear(arm: ArmResult, counted: NDArray[np.bool_], sizes: Tensor) -> float | None:
    changes = (arm.margins - arm.margins[0]).double()[:, torch.from_numpy(counted)]
    total = changes.square().sum(0)
    if not bool((total > 0).all()):
        return None
    slopes = sizes @ changes / (sizes @ sizes)
    left = (changes - sizes.unsqueeze(1) * slopes).square().sum(0)
    return (1 - left / total).median().item()
