"""The names that result files of SAEBench 0.6 have, by kind of evaluation: categories of metrics, the fields of each, and those of the details.

A field is a NUMBER that must be there, an OPTIONAL one (a number, or null where it was not measured), a whole COUNT, or a TEXT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum


class Kind(Enum):
    """What a field holds."""

    NUMBER = "a finite number"
    OPTIONAL = "a finite number or null"
    COUNT = "a whole number"
    TEXT = "a text"
    LETTER = "a single letter"


Fields = Mapping[str, Kind]


def _all(kind: Kind, names: Iterable[str]) -> dict[str, Kind]:
    return dict.fromkeys(names, kind)


def _numbers(names: str) -> dict[str, Kind]:
    return _all(Kind.NUMBER, names.split())


_PROBED = (1, 2, 5, 10, 20, 50, 100)
_ABLATED = (2, 5, 10, 20, 50, 100, 500)
_LLM = {"llm_test_accuracy": Kind.NUMBER, **_all(Kind.OPTIONAL, (f"llm_top_{k}_test_accuracy" for k in _PROBED))}
_SAE = _all(Kind.OPTIONAL, ("sae_test_accuracy", *(f"sae_top_{k}_test_accuracy" for k in _PROBED)))
_SCR = _all(Kind.OPTIONAL, (f"scr_{part}_threshold_{n}" for n in _ABLATED for part in ("dir1", "metric", "dir2")))
_TPP_PARTS = ("total_metric", "intended_diff_only", "unintended_diff_only")
_TPP = _all(Kind.OPTIONAL, (f"tpp_threshold_{n}_{part}" for n in _ABLATED for part in _TPP_PARTS))
_DATASET = {"dataset_name": Kind.TEXT}

CATEGORIES: Mapping[str, Mapping[str, Fields]] = {
    "core": {
        "model_behavior_preservation": _numbers("kl_div_score kl_div_with_ablation kl_div_with_sae"),
        "model_performance_preservation": _numbers(
            "ce_loss_score ce_loss_with_ablation ce_loss_with_sae ce_loss_without_sae"
        ),
        "reconstruction_quality": _numbers("explained_variance explained_variance_legacy mse cossim"),
        "shrinkage": _numbers("l2_norm_in l2_norm_out l2_ratio relative_reconstruction_bias"),
        "sparsity": _numbers("l0 l1"),
        "token_stats": _all(Kind.COUNT, ("total_tokens_eval_reconstruction", "total_tokens_eval_sparsity_variance")),
        "misc_metrics": _numbers(
            "freq_over_1_percent freq_over_10_percent normalized_freq_over_1_percent normalized_freq_over_10_percent "
            "average_max_encoder_cosine_sim average_max_decoder_cosine_sim frac_alive"
        ),
    },
    "sparse_probing": {"llm": _LLM, "sae": _SAE},
    "absorption_first_letter": {
        "mean": _numbers(
            "mean_absorption_fraction_score mean_full_absorption_score mean_num_split_features "
            "std_dev_absorption_fraction_score std_dev_full_absorption_score std_dev_num_split_features"
        )
    },
    "scr": {"scr_metrics": _SCR},
    "tpp": {"tpp_metrics": _TPP},
}
"""Kind of evaluation -> category -> field."""

DETAILS: Mapping[str, Fields] = {
    "core": {
        "index": Kind.COUNT,
        **_numbers(
            "feature_density consistent_activation_heuristic encoder_bias encoder_norm encoder_decoder_cosine_sim "
            "max_decoder_cosine_sim max_encoder_cosine_sim"
        ),
    },
    "sparse_probing": {**_DATASET, **_LLM, **_SAE},
    "absorption_first_letter": {
        "first_letter": Kind.LETTER,
        **_numbers("mean_absorption_fraction full_absorption_rate"),
        **_all(Kind.COUNT, ("num_full_absorption", "num_probe_true_positives", "num_split_features")),
    },
    "scr": {**_DATASET, **_SCR},
    "tpp": {**_DATASET, **_TPP},
}
"""Kind of evaluation -> fields of each entry of the details: a latent, a data set, a letter."""

UNDEFINED = -1.0
"""What SAEBench writes for a number that must be there and is undefined (0 / 0 of a dead latent)."""
