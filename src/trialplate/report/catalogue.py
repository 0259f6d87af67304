"""The metric catalogue: unit, direction and attainable range of every metric that the project records.

A gate needs to know that an accuracy cannot pass 1.2 and that perplexity is better when lower; a reader needs the unit. A suite of
one's own adds rows through the hook `trialplate_metrics`, or gives unit and direction to `record` directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Direction = Literal["higher", "lower", "none"]


class Metric(NamedTuple):
    """One row: unit, which way is better, lowest and highest attainable value (None: unbounded), and one sentence."""

    unit: str
    direction: Direction
    low: float | None
    high: float | None
    text: str


def _fraction(text: str) -> Metric:
    return Metric("fraction", "higher", 0.0, 1.0, text)


def _count(text: str) -> Metric:
    return Metric("count", "lower", 0.0, None, text)


METRICS: dict[str, Metric] = {
    # behaviour
    "accuracy": _fraction("share of items answered correctly"),
    "acc_gt": _fraction("share of items whose answer outscores the foil; ties count half"),
    "acc_top1": _fraction("share of items whose answer is the argmax of the whole vocabulary"),
    "logit_diff": Metric("logit", "higher", None, None, "mean logit of the answer minus logit of the foil"),
    "margin": Metric("nat", "higher", None, None, "mean log P(answer) minus the largest log P(foil)"),
    "accuracy_first": Metric("fraction", "none", 0.0, 1.0, "argmax accuracy on the first, unpredictable half"),
    "accuracy_second": _fraction("argmax accuracy on the repeated half"),
    "nll_first": Metric("nat/token", "lower", 0.0, None, "mean negative log-likelihood of the first half"),
    "nll_second": Metric("nat/token", "lower", 0.0, None, "mean negative log-likelihood of the repeated half"),
    "induction_gain": Metric("nat/token", "higher", None, None, "nll of the first half minus nll of the repeated half"),
    "prefix_matching": _fraction("mean attention from a repeated token to the successor of its first occurrence"),
    "prob_diff": Metric("probability", "higher", -1.0, 1.0, "P(years above) minus P(years not above)"),
    "sharpness": Metric("probability", "higher", -1.0, 1.0, "P(YY+1) minus P(YY-1)"),
    "exact_match": _fraction("share of items of whose true answer every token is the argmax"),
    "answer_logprob": Metric("nat", "higher", None, 0.0, "mean teacher-forced log-probability of the true answer"),
    # likelihood, named as lm-evaluation-harness names them
    "acc": _fraction("multiple choice or cloze accuracy by total log-likelihood"),
    "acc_norm": _fraction("multiple choice accuracy by log-likelihood per character"),
    "perplexity": Metric("ratio", "lower", 1.0, None, "exp of the mean negative log-likelihood of an item's target"),
    "word_perplexity": Metric("ratio", "lower", 1.0, None, "exp of nats per whitespace word"),
    "byte_perplexity": Metric("ratio", "lower", 1.0, None, "exp of nats per UTF-8 byte"),
    "token_perplexity": Metric(
        "ratio", "lower", 1.0, None, "exp of nats per token; comparable within one tokenizer only"
    ),
    "bits_per_byte": Metric("bit/byte", "lower", 0.0, None, "cross-entropy in bits per UTF-8 byte of the scored text"),
    "loss": Metric("nat/token", "lower", 0.0, None, "mean next-token loss on a pinned text"),
    "loglikelihood": Metric("nat", "higher", None, 0.0, "mean total log-likelihood of pinned texts"),
    "published_drift": Metric(
        "stated drift",
        "lower",
        0.0,
        None,
        "distance from the published value of this model and revision, over the drift stated for it",
    ),
    "pin_gap": Metric("nat", "lower", 0.0, None, "largest distance from a published number of the same model and text"),
    "numeric_noise": Metric(
        "nat", "lower", 0.0, None, "largest change of a score when nothing about its question changes"
    ),
    # checkpoints
    "missing_keys": _count("keys of the golden manifest that the checkpoint lacks"),
    "unexpected_keys": _count("keys of the checkpoint that the golden manifest lacks"),
    "renamed_keys": _count("keys with another name that no allowed rename explains"),
    "shape_changes": _count("keys with another shape"),
    "dtype_changes": _count("keys stored in another dtype"),
    "content_changes": _count("keys whose stored content differs from the golden digest"),
    "non_finite": _count("numbers among weights or activations that are NaN or infinite"),
    "causality_gap": Metric(
        "logit", "lower", 0.0, None, "largest change of a logit before the position that was changed"
    ),
    "padding_gap": Metric("logit", "lower", 0.0, None, "largest change of a logit under left or right padding"),
    "batch_gap": Metric("logit", "lower", 0.0, None, "largest change of a logit between alone and in a batch"),
    "cache_gap": Metric(
        "logit", "lower", 0.0, None, "largest change of a logit between cached decoding and a full forward"
    ),
    "repeat_gap": Metric("logit", "lower", 0.0, None, "largest change of a logit between two equal runs"),
    "round_trip_gap": Metric("logit", "lower", 0.0, None, "largest change of a logit after saving and loading"),
    "tied_violations": _count("weights declared tied that are not one tensor, or the reverse"),
    "dtype_violations": _count("floating tensors not of the requested dtype"),
    # tokenizers
    "round_trip_failures": _count("strings that encoding and decoding change"),
    "vocabulary_changes": _count("tokens added, removed or moved against the golden vocabulary"),
    "padding_violations": _count("rows that break the algebra of padding and truncation"),
    "id_violations": _count("ids outside the vocabulary or the embedding, or special tokens that collide"),
    "batch_mismatches": _count(
        "strings whose batched encoding differs from the single one, or whose offsets leave gaps"
    ),
    # addressed state models
    "fingerprint_gap": Metric(
        "logit", "lower", 0.0, None, "largest distance of a logit from the golden one of fixed ids"
    ),
    "decoding_state": Metric("number", "lower", 0.0, None, "numbers that decoding keeps of one text, over all layers"),
    "bits_per_byte_cost": Metric(
        "bit/byte",
        "higher",
        None,
        None,
        "bits per byte with another write than the checkpoint's own, minus those with its own",
    ),
    "logit_shift": Metric("ratio", "none", 0.0, None, "change of the centred logits relative to their size"),
    "read_entropy": Metric("nat", "none", 0.0, None, "mean entropy of the read weights of a layer"),
    "read_sharpness": Metric(
        "fraction", "none", 0.0, 1.0, "1 minus entropy of the read weights over ln K; 0 is uniform over slots"
    ),
    "top1_frequency": Metric("fraction", "none", 0.0, 1.0, "share of reads whose first choice is the favourite slot"),
    "usage_perplexity": Metric("count", "none", 1.0, None, "slots in use: exp of the entropy of the mean read weights"),
    "slots_ever_chosen": Metric(
        "fraction", "none", 0.0, 1.0, "share of slots of a head that are somewhere its first choice"
    ),
    "knockout_cost": Metric(
        "bit/byte", "none", None, None, "bits per byte lost where no head of a layer may read a slot"
    ),
    "usage_cost_correlation": Metric(
        "correlation", "none", -1.0, 1.0, "rank correlation over slots of mean read weight and knock-out cost"
    ),
    "refinement_alpha": Metric(
        "ratio", "none", None, None, "component of the refinement along the read, over the read"
    ),
    "refinement_orthogonal": Metric("fraction", "none", 0.0, 1.0, "part of the refinement's length across the read"),
    "refinement_size": Metric("ratio", "none", 0.0, None, "length of the refinement over that of the read"),
    "refinement_cost": Metric(
        "nat/token", "none", None, None, "loss added where every refinement keeps only the named part"
    ),
    "paris_margin": Metric("nat", "none", None, None, "mean log P( Paris) minus log P( the) over prompts of one role"),
    "paris_contrast": Metric("nat", "higher", None, None, "Paris margin of target prompts minus that of controls"),
    "margin_slope": Metric(
        "logit/unit", "none", None, None, "change of the margin a unit step of one arm, from the arm's own baseline"
    ),
    "routing_share": Metric(
        "fraction", "none", 0.0, 1.0, "share of routing in the absolute slopes of routing and held residual"
    ),
    "baseline_gap": Metric(
        "logit", "lower", 0.0, None, "largest distance of a margin at step 0 from the undisturbed one"
    ),
    # archive
    "sealed_files_intact": _fraction("share of the files of an archive that are there and as they were sealed"),
    # cost: measured and shown, never judged by default
    "tokens_per_second": Metric("token/s", "higher", 0.0, None, "throughput"),
    "seconds": Metric("s", "lower", 0.0, None, "wall time"),
    "peak_memory": Metric("MB", "lower", 0.0, None, "peak resident memory of the process, or of the device"),
}


def lookup(name: str, extra: Mapping[str, Metric] | None = None) -> Metric | None:
    """The catalogue row of a metric: a suite's own rows first, then the project's."""
    return (extra or {}).get(name) or METRICS.get(name)
