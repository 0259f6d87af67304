"""A probe as plain data: what `paris_margin.json` holds. Keys of the published forms (`margins`, `mean_margin`, ...) keep their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from trialplate.metrics.estimate import Estimate
from trialplate.routing import published
from trialplate.routing.basin import EnergyBasin
from trialplate.routing.comparison import FITTED, ArmResult
from trialplate.routing.estimates import LayerEstimates, margin_contrast, mean_over_prompts
from trialplate.routing.finding import finding
from trialplate.routing.layer_statistics import LayerStatistics
from trialplate.routing.matching import Match
from trialplate.routing.probe import Null, ProbeRun

SCHEMA = 1
NOTES = {
    "margin": "logit of the target minus logit of the rival at the last token, equal to log P(target) - log P(rival); logits",
    "mean_margin": "over all prompts, controls included, as published; estimates.target is over target prompts alone",
    "evr": "explained variance ratios of the first principal axes of Z, the head mean of read logits, in the late window",
    "entropy_late": "mean entropy of softmax(Z) in the late window; nats",
    "attractor_sharpness": "correlation over prompts of closeness to the margin-weighted centroid with the margin; null where undefined",
    "logit_lens_margin": "final norm and head applied to the block's output; not part of the published probe",
    "raw": "the published parity experiment: absolute eps, one distribution forced on all heads, its jump inside slope_routing; logits per eps",
    "corrected": "slopes in logits per unit of matched size, each from its arm's own start; see settings.comparison",
    "routing_share": "|routing| / (|routing| + |residual|) of the corrected mean slopes; 0 to 1",
    "units": "lengths of the units of the three ways to match; slope in another unit = slope * its length / length of the chosen one",
    "null": "the same experiment on random models of the same configuration; bands hold 95 % of bootstrapped means, pooled over models",
}


def document(
    run: ProbeRun, decode: Callable[[Sequence[int]], str], about: Mapping[str, Any], tag: str = ""
) -> dict[str, Any]:
    """Everything of a run as dictionaries, lists, strings and finite numbers. `decode` writes the ids of top tokens; `about` describes
    model and machine and is kept under `model`."""
    source = run.prompts.source
    bands = run.null.bands if run.null else []
    contrast = margin_contrast(run.margins, run.prompts.is_control.cpu())
    top = [[decode([token]) for token in tokens] for tokens in run.top_ids]
    return {
        "schema": SCHEMA,
        "mode": source.name,
        "tag": tag,
        "finding": finding(run.estimates, bands, run.settings.comparison.match, contrast),
        "definition": source.definition,
        "target": {"text": source.target, "id": run.prompts.target_id},
        "rival": {"text": source.rival, "id": run.prompts.rival_id},
        "first_token_only": run.prompts.first_token,
        "margins": run.margins.tolist(),
        "mean_margin": run.margins.mean().item(),
        "median_margin": run.margins.median().item(),
        "min_margin": run.margins.min().item(),
        "max_margin": run.margins.max().item(),
        "top10_tokens": top,
        "routing_stats": run.random_tokens,
        "estimates": _estimates(run),
        "prompts": _prompts(run, top),
        "settings": _settings(run),
        "layers": [_layer(run, index) for index in range(len(run.layers))],
        "null": _null(run.null),
        "heads": asdict(run.heads),
        "published": _published(run),
        "energy_basin": _basin(run.basin),
        "model": dict(about),
        "notes": NOTES,
    }


def before_and_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The published comparison of one model before and after a change, from two documents of the same prompts and words.

    Raises ValueError for documents that cannot be compared."""
    for key in ("margins", "mean_margin"):
        if key not in before:
            raise ValueError(
                f"the document to compare with has no {key!r}: wanted a paris_margin.json of this probe, or the published form"
            )
    for key in ("mode", "target", "rival"):
        if key in before and before[key] != after[key]:
            raise ValueError(
                f"{key} was {before[key]!r} before and is {after[key]!r} now; probe both models in the same way"
            )
    if "prompts" in before and [p["text"] for p in before["prompts"]] != [p["text"] for p in after["prompts"]]:
        raise ValueError("the prompts before are not those of now; probe both models with the same prompt set")
    if len(before["margins"]) != len(after["margins"]):
        raise ValueError(
            f"{len(before['margins'])} margins before and {len(after['margins'])} now; probe both models with the same prompt set"
        )
    return {
        "mean_margin_before": before["mean_margin"],
        "mean_margin_after": after["mean_margin"],
        "margin_deltas": [new - old for old, new in zip(before["margins"], after["margins"], strict=True)],
        "routing_stats_before": before.get("routing_stats", {}),
        "routing_stats_after": after["routing_stats"],
    }


def _estimates(run: ProbeRun) -> dict[str, Any]:
    control = run.prompts.is_control.cpu()
    seed, draws = run.settings.seed, run.settings.bootstrap_draws
    return {
        "target": _estimate(mean_over_prompts(run.margins[~control], seed, draws)),
        "control": _estimate(mean_over_prompts(run.margins[control], seed, draws) if bool(control.any()) else None),
        "contrast": _estimate(margin_contrast(run.margins, control)),
    }


def _prompts(run: ProbeRun, top: list[list[str]]) -> list[dict[str, Any]]:
    lengths = run.prompts.mask.sum(1).tolist()
    return [
        {
            "text": prompt.text,
            "role": "control" if prompt.is_control else "target",
            "n_tokens": length,
            "margin": margin,
            "top10_tokens": tokens,
        }
        for prompt, length, margin, tokens in zip(
            run.prompts.source.prompts, lengths, run.margins.tolist(), top, strict=True
        )
    ]


def _settings(run: ProbeRun) -> dict[str, Any]:
    chosen = run.settings
    return {
        "layers": run.layers,
        "seed": chosen.seed,
        "bootstrap_draws": chosen.bootstrap_draws,
        "n_null": chosen.n_null,
        "comparison": {
            **asdict(chosen.comparison),
            "sizes_in_slope": FITTED,
            "direction": "mean gradient over the other target prompts, in the principal axes",
        },
        "raw": {"eps": list(published.EPS), "eps_in_slope": published.FITTED, "gradient_step": published.STEP},
    }


def _layer(run: ProbeRun, index: int) -> dict[str, Any]:
    row, jacobian, estimates = run.sweep[index], run.jacobian[index], run.estimates[index]
    match = run.settings.comparison.match
    compared, (curve, half) = run.comparison.layers[index], run.inertia[index]
    return {
        "layer": row.layer,
        **_statistics(row),
        "jacobian": {key: value for key, value in asdict(jacobian).items() if key != "layer"},
        "inertia": {"cosine_by_lag": curve, "half_life_0.9": half},
        "logit_lens_margin": run.lens[index].tolist(),
        "raw": _parity(run.raw[index]),
        "corrected": {
            **_layer_estimates(estimates),
            "arms": {
                "routing": _arm(compared.routing, match),
                "residual": _arm(compared.residual, match),
                "residual_free": _arm(compared.residual_free, match),
            },
        },
        "trajectories": [_rounded(path) for path in run.trajectories[index]],
    }


def _statistics(row: LayerStatistics) -> dict[str, Any]:
    return {
        "evr": [row.evr_pc1, row.evr_pc2, row.evr_pc3],
        "entropy_late": row.entropy_late,
        "attractor_sharpness": row.attractor_sharp,
        "read_entropy": row.read_entropy,
        "top1_frequency": row.top1_frequency,
        "usage_perplexity": row.usage_perplexity,
    }


def _layer_estimates(layer: LayerEstimates) -> dict[str, Any]:
    found = {name: getattr(layer, name) for name in layer.__dataclass_fields__ if name != "layer"}
    by_match = found.pop("routing_share_by_match")
    plain = {name: _estimate(value) if isinstance(value, Estimate) else value for name, value in found.items()}
    return {**plain, "routing_share_by_match": {match: _estimate(share) for match, share in by_match.items()}}


def _arm(arm: ArmResult, match: Match) -> dict[str, Any]:
    return {
        "evr": arm.evr,
        "gradient": arm.gradient,
        "norm": arm.norm.tolist(),
        "units": {match: lengths.tolist() for match, lengths in arm.units.items()},
        "margins": arm.margins.tolist(),
        "mean_kl": arm.kl.mean(1).tolist(),
        "slopes": arm.slopes(match).tolist(),
    }


def _parity(found: published.Parity) -> dict[str, Any]:
    return {
        "base": found.base.mean().item(),
        "evr_routing": found.evr_routing,
        "evr_residual": found.evr_residual,
        "eps": list(published.EPS),
        "routing_mean": found.routing.mean(1).tolist(),
        "residual_mean": found.residual.mean(1).tolist(),
        "slope_routing": found.slope_routing,
        "slope_residual": found.slope_residual,
        "slope_routing_from_forced": found.slope_routing_from_forced,
        "forced_jump": found.forced_jump,
    }


def _published(run: ProbeRun) -> dict[str, Any] | None:
    """The published experiments under their own keys, layer by layer."""
    if not run.frozen:
        return None
    frozen = {
        str(layer): {
            "base": found.base.mean().item(),
            "evr": found.evr,
            "g_norm": found.g_norm,
            "eps": list(published.EPS),
            "margins": found.margins.mean(1).tolist(),
            "slope0": found.slope0,
        }
        for layer, found in zip(run.layers, run.frozen, strict=True)
    }
    return {
        "parity": {str(layer): _parity(found) for layer, found in zip(run.layers, run.raw, strict=True)},
        "frozen": frozen,
    }


def _null(null: Null | None) -> dict[str, Any] | None:
    if null is None:
        return None
    layers = [band.layer for band in null.bands if band.quantity == "routing"]
    by_layer = {
        str(layer): {
            band.quantity: {"mean": band.mean, "low": band.low, "high": band.high}
            for band in null.bands
            if band.layer == layer
        }
        for layer in layers
    }
    sweeps = {str(layer): [_statistics(sweep[index]) for sweep in null.sweeps] for index, layer in enumerate(layers)}
    return {"kind": "random weights", "seeds": null.seeds, "bands": by_layer, "statistics": sweeps}


def _basin(basin: EnergyBasin | None) -> dict[str, Any] | None:
    if basin is None:
        return None
    x, y, energy = basin.bottom
    return {
        "axes_layer": basin.axes_layer,
        "forced_layers": basin.forced_layers,
        "x": basin.x.tolist(),
        "y": basin.y.tolist(),
        "energy": _rounded(basin.energy),
        "energy_at_mean": basin.energy_at_mean,
        "undisturbed": basin.undisturbed.tolist(),
        "bottom": {"x": x, "y": y, "energy": energy},
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        "value": estimate.value,
        "n": estimate.n,
        "stderr": estimate.stderr,
        "ci": list(estimate.ci) if estimate.ci else None,
        "level": estimate.level,
        "method": estimate.method,
    }


def _rounded(values: Tensor) -> list[list[float]]:
    """For a picture: six decimals are enough, and keep the file small."""
    return [[round(value, 6) for value in row] for row in values.tolist()]
