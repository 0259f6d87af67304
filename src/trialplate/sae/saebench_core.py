"""Core numbers of a coder as SAEBench's `core` evaluation names them.

Where our definition and theirs differ, the number is ours and `DEFINITIONS` says so in the file: their explained variance is about zero, their
mse is divided by the tokens of a batch, their l1 adds signs, their densities count positive latents only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trialplate.sae.evaluate import EV_DEFINITION, CoreScores
from trialplate.sae.latent_table import LatentTable, Vector
from trialplate.sae.preservation import Preserved
from trialplate.sae.saebench_fields import UNDEFINED

DEFINITIONS: Mapping[str, str] = {
    "explained_variance": f"{EV_DEFINITION}: 1 - E|r|^2 / (E|x|^2 - |E x|^2), E over all tokens",
    "explained_variance_legacy": "saebench_legacy: E of 1 - |r|^2 / |x - mean of the batch|^2",
    "mse": "E|r|^2, squared distance of a token",
    "l1": "E sum |f|",
    "feature_density": "share of tokens on which a latent is not zero",
    "relative_reconstruction_bias": "E|x'|^2 / E<x, x'> over all tokens",
    "kl_div_score": "zeros stand where the coder would",
    "undefined": f"{UNDEFINED:g} where a number must be there and is 0 / 0",
}


def core_metrics(scores: CoreScores, preserved: Preserved, table: LatentTable) -> dict[str, dict[str, float | int]]:
    """Categories of metrics for `saebench_json.saebench_result("core", ...)`. ValueError where a score is undefined (see `preservation`)."""
    firing = scores.firing
    fires = bool(firing.alive.any())
    return {
        "model_behavior_preservation": {
            "kl_div_score": preserved.kl_score.value,
            "kl_div_with_ablation": preserved.kl_zero.value,
            "kl_div_with_sae": preserved.kl_sae.value,
        },
        "model_performance_preservation": {
            "ce_loss_score": preserved.ce_loss_score.value,
            "ce_loss_with_ablation": preserved.ce_zero.value,
            "ce_loss_with_sae": preserved.ce_sae.value,
            "ce_loss_without_sae": preserved.ce_clean.value,
        },
        "reconstruction_quality": {
            "explained_variance": scores.ev.value,
            "explained_variance_legacy": scores.sums.explained_variance("saebench_legacy"),
            "mse": scores.mse.value,
            "cossim": scores.cosine.value,
        },
        "shrinkage": {
            "l2_norm_in": scores.l2_in.value,
            "l2_norm_out": scores.l2_out.value,
            "l2_ratio": scores.l2_ratio.value,
            "relative_reconstruction_bias": UNDEFINED if scores.bias is None else scores.bias.value,
        },
        "sparsity": {"l0": scores.l0.value, "l1": scores.l1.value},
        "token_stats": {
            "total_tokens_eval_reconstruction": preserved.n_tokens,
            "total_tokens_eval_sparsity_variance": scores.n_tokens,
        },
        "misc_metrics": {
            "freq_over_1_percent": firing.share_above(0.01),
            "freq_over_10_percent": firing.share_above(0.1),
            "normalized_freq_over_1_percent": firing.mass_above(0.01) if fires else UNDEFINED,
            "normalized_freq_over_10_percent": firing.mass_above(0.1) if fires else UNDEFINED,
            "average_max_encoder_cosine_sim": _mean(table.nearest_encoder),
            "average_max_decoder_cosine_sim": _mean(table.nearest_decoder),
            "frac_alive": firing.alive_frac,
        },
    }


def core_details(table: LatentTable) -> list[dict[str, Any]]:
    """One entry a latent."""
    between = table.encoder_decoder_cosine
    columns: dict[str, Vector] = {
        "feature_density": table.firing.values,
        "consistent_activation_heuristic": table.consistent_activation,
        "encoder_bias": table.encoder_bias,
        "encoder_norm": table.encoder_norm,
        "encoder_decoder_cosine_sim": np.full(len(table.encoder_norm), np.nan) if between is None else between,
        "max_decoder_cosine_sim": table.nearest_decoder,
        "max_encoder_cosine_sim": table.nearest_encoder,
    }
    values = {name: [UNDEFINED if math.isnan(v) else v for v in column.tolist()] for name, column in columns.items()}
    return [
        {"index": i, **{name: column[i] for name, column in values.items()}} for i in range(len(table.encoder_norm))
    ]


def _mean(values: Vector) -> float:
    """Over the latents that have one; rows of zeros have none."""
    return float(np.nanmean(values))
