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
    # activations: reading them
    "sites_missing": _count("sites of the architecture's map that the model does not have, or that have another width"),
    "site_gap": Metric(
        "ratio",
        "lower",
        0.0,
        None,
        "largest distance of what is read at a site from what it must be, over the largest entry there",
    ),
    "tokens_lost": _count("tokens of the texts that were not counted once and only once"),
    "count_gap": _count("firings that differ from those counted by hand"),
    "hooked_gap": Metric("logit", "lower", 0.0, None, "largest change of a logit while sites are read, and afterwards"),
    "stream_gap": Metric(
        "ratio", "lower", 0.0, None, "largest relative change of sums when the same texts come in other batches"
    ),
    "activation_padding_gap": Metric(
        "ratio", "lower", 0.0, None, "largest change of activations under padding, over the largest entry"
    ),
    # activations: sparsity. Low or high is no merit: a finding about a model
    "act_frac": Metric(
        "fraction", "none", 0.0, 1.0, "share of hidden units above a threshold (params say which), mean over tokens"
    ),
    "zero_frac": Metric("fraction", "none", 0.0, 1.0, "share of hidden units that are exactly zero"),
    "cett_sparsity": Metric(
        "fraction", "none", 0.0, 1.0, "share of units a token can do without at an error of a fifth of the MLP's output"
    ),
    "treves_rolls": Metric(
        "ratio", "none", 0.0, 1.0, "squared mean size over mean square; low is sparse (over=units: within a token)"
    ),
    "hoyer": Metric("ratio", "none", 0.0, 1.0, "0 all alike, 1 one alone (over=units: within a token)"),
    "gini": Metric("ratio", "none", 0.0, 1.0, "inequality of sizes (over=units: within a token)"),
    "exkurt": Metric("ratio", "none", -2.0, None, "excess kurtosis of a unit over tokens, mean over units that move"),
    "dead_frac": Metric(
        "fraction", "none", 0.0, 1.0, "share of units on fewer than 1e-6 of tokens; means something from 1M tokens on"
    ),
    "always_on_frac": Metric("fraction", "none", 0.0, 1.0, "share of units that fire on more than 99 % of tokens"),
    "analytic_gap": Metric(
        "ratio", "lower", 0.0, None, "largest relative distance from the closed form for a known distribution"
    ),
    "pr_cov": Metric("dimension", "none", 1.0, None, "participation ratio of the covariance; null: white noise"),
    "erank": Metric("dimension", "none", 0.0, None, "effective rank of the covariance; null: white noise"),
    # activations: specialization, modules
    "si_mean": Metric(
        "fraction", "none", -1.0, 1.0, "specialization index, mean over scored units; null: permuted texts"
    ),
    "si_excess": Metric(
        "fraction",
        "none",
        -2.0,
        2.0,
        "specialization index minus that of permuted texts; 0: no unit cares about the task",
    ),
    "si_coverage": Metric("fraction", "none", 0.0, 1.0, "share of units that fire often enough to be scored"),
    "mi_bits": Metric("bit", "none", 0.0, 1.0, "mutual information of firing and task, mean over units"),
    "frac_selective": Metric(
        "fraction", "none", 0.0, 1.0, "share of units found to fire by task, at a false discovery rate of 5 %"
    ),
    "dloss_own": Metric(
        "fraction", "none", -1.0, None, "relative loss increase on the task whose units are held at their mean"
    ),
    "dloss_other": Metric("fraction", "none", -1.0, None, "mean of the same on the other tasks"),
    "z_vs_random": Metric(
        "sd", "none", None, None, "dloss_own minus dloss_other, against units of the same firing rates at random"
    ),
    "q": Metric(
        "modularity", "none", -0.5, 1.0, "Newman's modularity of the co-activation graph; null: rewired graphs"
    ),
    "q_z": Metric("sd", "none", None, None, "modularity against rewired graphs"),
    "edge_excess": Metric(
        "fraction", "none", None, 1.0, "share of co-activation edges that are gone when units are shifted within texts"
    ),
    "n_edges": Metric("count", "none", 0.0, None, "edges of the co-activation graph at a false discovery rate of 1 %"),
    "n_communities": Metric("count", "none", 1.0, None, "communities of the best partition"),
    "stability_ari": Metric("ratio", "none", -1.0, 1.0, "adjusted Rand index between partitions of different seeds"),
    "ari": Metric("ratio", "higher", -1.0, 1.0, "adjusted Rand index of found communities and planted modules"),
    # coders: what they give back
    "explained_variance": Metric(
        "fraction",
        "higher",
        None,
        1.0,
        "1 - squared error over squared distance from the mean, of held-out activations",
    ),
    "ev_gap": Metric(
        "fraction", "lower", None, None, "explained variance on rows of training minus that on held-out ones"
    ),
    "lowest_ev": Metric(
        "fraction", "higher", None, 1.0, "least explained variance of all coders of a study, each on its own target"
    ),
    "cosine": Metric("cosine", "higher", -1.0, 1.0, "mean cosine of activations and what a coder makes of them"),
    "l2_ratio": Metric(
        "ratio",
        "none",
        0.0,
        None,
        "mean length of what a coder makes of an activation over the activation's own; below 1: shrinkage",
    ),
    "l0": Metric("count", "lower", 0.0, None, "mean number of latents of a token that are not zero"),
    "l0_gap": Metric("count", "none", None, None, "active latents on held-out rows minus those in training"),
    "alive_latents": Metric(
        "fraction", "higher", 0.0, 1.0, "share of latents that fire at least once on the held-out rows"
    ),
    "dense_latents": Metric(
        "fraction", "lower", 0.0, 1.0, "share of latents that fire on more than a tenth of the tokens"
    ),
    "ce_loss_score": Metric(
        "fraction",
        "higher",
        None,
        None,
        "(loss with zeros - loss with the coder) / (loss with zeros - loss of the model)",
    ),
    "ce_increase": Metric("nat/token", "lower", None, None, "loss with the coder in place minus loss of the model"),
    "kl_div_score": Metric(
        "fraction", "higher", None, 1.0, "1 - divergence with the coder in place over divergence with zeros"
    ),
    "kept_error_gap": Metric(
        "logit", "lower", 0.0, None, "largest change of a logit where a coder is in place and its error is added back"
    ),
    "code_gap": Metric(
        "ratio", "lower", 0.0, None, "largest change of a code by writing and reading a coder, over its largest entry"
    ),
    "decoder_norm_gap": Metric("ratio", "lower", 0.0, None, "largest distance of a decoder row from unit length"),
    # coders: what their latents are
    "matched_cosine": Metric(
        "cosine",
        "none",
        -1.0,
        1.0,
        "mean cosine of decoder rows of two seeds, matched one to one; chance depends on the shape",
    ),
    "stability": Metric("fraction", "higher", None, 1.0, "matched cosine over seeds above chance: (s - s0) / (1 - s0)"),
    "stability_gain": Metric(
        "fraction", "higher", None, None, "stability of coders minus that of coders of the random twin of the model"
    ),
    "transcoder_gain": Metric(
        "fraction", "none", None, None, "stability of transcoders minus that of autoencoders of what they write"
    ),
    "stability_over_untrained": Metric(
        "fraction", "higher", None, None, "stability of coders minus that of the same ones before training"
    ),
    "calibrated_k": Metric("count", "none", 1.0, None, "k that a floor of explained variance and stability chose"),
    "confirmed_stability": Metric(
        "fraction",
        "higher",
        None,
        1.0,
        "lower bound of the stability of the chosen k, over seeds that did not choose it",
    ),
    "scaling_slope": Metric(
        "ratio", "none", None, None, "slope of log(1 - explained variance) over the logarithm of tokens or width"
    ),
    "missing_coders": Metric("count", "lower", 0.0, None, "coders of a grid that could not be trained or measured"),
    "probe_accuracy": _fraction(
        "balanced accuracy of probes of at most five latents, their number chosen on other texts"
    ),
    "probe_gain": Metric(
        "fraction", "higher", -1.0, 1.0, "accuracy of probes of latents minus that of a baseline on the same texts"
    ),
    "cebench": Metric(
        "sd", "none", None, None, "largest z-score among latents, mean over pairs of stories; at most (m - 1) / sqrt(m)"
    ),
    "cebench_share": Metric("fraction", "none", None, 1.0, "CE-Bench score over sqrt(m), comparable across widths"),
    "cebench_gain": Metric(
        "sd", "higher", None, None, "contrastive score minus that of a random coder of the same width"
    ),
    "shift_accuracy": _fraction("accuracy of probes of latents that were trained on texts of the source"),
    "shift_drop": Metric("fraction", "lower", -1.0, 1.0, "accuracy on texts of the source minus that on shifted ones"),
    "shift_excess": Metric(
        "fraction", "lower", -2.0, 2.0, "what probes of latents lose by a shift beyond what probes of channels lose"
    ),
    # coders: planted truth
    "recovery_f1": _fraction(
        "planted directions and latents that found each other at a cosine of 0.9, harmonic mean of both shares"
    ),
    "recovery_mcc": _fraction("mean absolute cosine of planted directions and latents, matched one to one"),
    "absorption": Metric(
        "fraction", "lower", 0.0, 1.0, "part of a parent's projection that latents of its children write"
    ),
    "full_absorption": Metric(
        "fraction",
        "lower",
        0.0,
        1.0,
        "share of tokens on which a parent's latents are silent and a child's latent writes it",
    ),
    "circuit_share": _fraction("share of an embedding's variance at its strongest frequencies"),
    "circuit_overlap": Metric(
        "fraction",
        "higher",
        -1.0,
        1.0,
        "share of decoder rows within the planes of a circuit, above that of random directions",
    ),
    "circuit_recall": _fraction("share of the planes of a circuit that a coder can write at a cosine of 0.9"),
    # activations: fewer units
    "kept_share": Metric("fraction", "none", 0.0, 1.0, "share of hidden units that stayed, counted as executed"),
    "dppl_pct": Metric("%", "lower", -100.0, None, "change of perplexity where only some hidden units are kept"),
    "kl_to_dense": Metric("nat/token", "lower", 0.0, None, "divergence of the dense model's predictions from these"),
    "kept_all_gap": Metric("logit", "lower", 0.0, None, "largest change of a logit where every unit is kept"),
    "worst_rise": Metric(
        "sd", "lower", None, None, "largest rise of perplexity as more is kept, in its own standard error"
    ),
    "topk_ppl1": Metric(
        "fraction", "none", 0.0, 1.0, "smallest share of units a token at which perplexity rises by at most 1 %"
    ),
    "cett_ppl1": Metric("fraction", "none", 0.0, 1.0, "share of units left out at the error that costs 1 % perplexity"),
    "speedup": Metric("ratio", "higher", 0.0, None, "time of dense decoding over that with skipped units"),
    "speedup_ceiling": Metric(
        "ratio", "none", 1.0, None, "what skipping the whole down projection could give, by weights read"
    ),
    "efficiency": Metric("ratio", "higher", None, None, "(speedup - 1) / (ceiling - 1)"),
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
