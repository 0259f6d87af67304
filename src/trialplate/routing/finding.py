"""What a probe found, in one sentence: who moves the margin more, at how many layers, and whether random weights do as much."""

from __future__ import annotations

from collections.abc import Sequence

from trialplate.metrics.estimate import Estimate
from trialplate.routing.estimates import LayerEstimates, NullBand
from trialplate.routing.matching import Match

MATCH_WORDS: dict[Match, str] = {
    "relative_norm": "relative norm",
    "late_window_sd": "late-window deviation",
    "output_kl": "output KL",
}


def finding(
    estimates: Sequence[LayerEstimates], bands: Sequence[NullBand], match: Match, contrast: Estimate | None = None
) -> str:
    """A layer counts for an arm where the 95 % interval of the paired difference of slopes leaves out 0 and the arm's slope lies above random
    models, if any were run. A model whose margin is no larger on target prompts than on controls (`contrast`) has nothing to explain."""
    if contrast is not None and contrast.ci is not None and contrast.ci[0] <= 0:
        return f"The margin is no larger on target prompts than on controls ({contrast.value:+.2g}): there is nothing to explain here"
    n = len(estimates)
    routing = sum(
        1 for layer in estimates if _sign(layer) > 0 and _above(layer.routing.value, layer.layer, "routing", bands)
    )
    residual = sum(
        1 for layer in estimates if _sign(layer) < 0 and _above(layer.residual.value, layer.layer, "residual", bands)
    )
    if routing > residual:
        verdict = f"Routing moves the margin more than the residual at {routing} of {n} layers"
        rest = f", less at {residual}" if residual else ""
    elif residual > routing:
        verdict = f"The residual moves the margin more than routing at {residual} of {n} layers"
        rest = f", less at {routing}" if routing else ""
    else:
        verdict = f"Neither routing nor the residual moves the margin more: each does at {routing} of {n} layers"
        rest = ""
    how = f"{estimates[0].routing.n} prompts, steps matched by {MATCH_WORDS[match]}"
    return f"{verdict}{rest} ({how}){_beyond(estimates, bands)}"


def _sign(layer: LayerEstimates) -> int:
    """1 where routing moves the margin more, -1 where the residual does, 0 where the interval of the difference holds 0."""
    if layer.difference.ci is None:
        return 0
    return int(layer.difference.ci[0] > 0) - int(layer.difference.ci[1] < 0)


def _above(slope: float, layer: int, quantity: str, bands: Sequence[NullBand]) -> bool:
    return all(slope > band.high for band in bands if (band.layer, band.quantity) == (layer, quantity))


def _beyond(estimates: Sequence[LayerEstimates], bands: Sequence[NullBand]) -> str:
    limits = {band.layer: band.high for band in bands if band.quantity == "routing"}
    if not limits:
        return "; no null was run"
    above = sum(1 for layer in estimates if layer.routing.value > limits[layer.layer])
    return f"; routing does more than in random models at {above} of {len(estimates)}"
