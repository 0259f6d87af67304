"""What leaving out hidden units costs: perplexity, bits a byte and divergence from the dense model, with intervals over documents.

Symbols: N_j(x) = nats of document j under x, T_j = its scored tokens, B_j = bytes of what is scored. Sums are divided by sums, so long documents count
for their length; intervals are those of `statistics.ratio_of_sums`, with documents as what varies. Changes are paired by document: what makes a
text hard for both models cancels out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trialplate.activations.dynamic_k import Sparsified, scope_name
from trialplate.activations.likelihood import Likelihood, Sums, likelihoods, texts_of
from trialplate.activations.rules import Rule
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import exponential, ratio_of_sums
from trialplate.models.causal_lm import CausalLM

KEPT = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Shares that are usually swept."""


@dataclass(frozen=True, slots=True)
class Quality:
    """One rule on some texts.

    rule, asked    its name, and the number that sets how much stays (a share; for cett the bound t)
    scope          layers it held in: all, L3, L0+L2
    kept_share     units that stayed / all units of these layers at scored positions, counted; `kept_by_layer` the same by layer
    perplexity     exp(sum N(rule) / sum T)
    dppl_pct       100 (exp(sum (N(rule) - N(dense)) / sum T) - 1)
    kl_to_dense    sum KL(dense || rule) / sum T: nats a token between the next-token distributions
    bits_per_byte  sum N(rule) / (ln 2 sum B); None where bytes were not given
    nats, n_tokens by document, for paired comparisons"""

    rule: str
    asked: float
    scope: str
    kept_share: float
    kept_by_layer: Mapping[int, float]
    perplexity: Estimate
    dppl_pct: Estimate
    kl_to_dense: Estimate
    bits_per_byte: Estimate | None
    nats: Sums
    n_tokens: Sums


def quality(
    model: CausalLM,
    documents: Sequence[Sequence[int]],
    rules: Sequence[Rule],
    *,
    layers: Sequence[int] | None = None,
    n_bytes: Sequence[int] | None = None,
    protect_first: int = 0,
    max_length: int | None = None,
    positions: int | None = None,
    level: float = 0.95,
) -> list[Quality]:
    """One `Quality` a rule, in their order; the dense model runs once a batch for all of them.

    documents  token ids of each; the first token is given, the others are scored. For what a model says about whole texts, put its beginning token
               in front. Documents longer than the window (`max_length`, at most the model's) are read in parts.
    layers     where the rules hold; None: everywhere
    n_bytes    UTF-8 bytes of what is scored, one number a document
    protect_first, positions: as `Sparsified` and `likelihood.texts_of`

    One document gives values without intervals. Raises ValueError for no rule, and for documents or layers as those two do."""
    if not rules:
        raise ValueError(f"{model.label}: no rule was given, so there is nothing to compare with the dense model")
    if n_bytes is not None and len(n_bytes) != len(documents):
        raise ValueError(f"wanted the bytes of {len(documents)} documents, got {len(n_bytes)} numbers")
    texts = texts_of(model, documents, max_length=max_length, positions=positions)
    bound = [Sparsified(model, rule, layers, protect_first=protect_first) for rule in rules]
    dense, *found = likelihoods(model, texts, [None, *bound], divergence=True)
    return [
        _quality(sparse, likelihood, dense, texts.n_tokens, n_bytes, level)
        for sparse, likelihood in zip(bound, found, strict=True)
    ]


def percent_change(nats: Sums, dense_nats: Sums, n_tokens: Sums, *, level: float = 0.95) -> Estimate:
    """100 (perplexity / dense perplexity - 1), paired by document. At least -100."""
    ratio = exponential(ratio_of_sums(nats - dense_nats, n_tokens, level=level))
    ci = None if ratio.ci is None else (100 * (ratio.ci[0] - 1), 100 * (ratio.ci[1] - 1))
    stderr = None if ratio.stderr is None else 100 * ratio.stderr
    return Estimate(100 * (ratio.value - 1), ratio.n, stderr, ci, level, ratio.method)


def worst_rise(found: Iterable[Quality]) -> float:
    """How far perplexity is from never rising with the kept share: the largest rise between neighbours, in standard errors of their paired difference.

    At most 0 where it never rises; a value up to 2 is what noise of the texts explains. Infinite for a rise without any spread. Raises ValueError for
    fewer than two shares, other texts, one document only, or two rules at once."""
    ordered = sorted(found, key=lambda q: q.kept_share)
    if len(ordered) < 2 or len({(q.rule, q.scope) for q in ordered}) != 1:
        raise ValueError(
            f"wanted several shares of one rule and scope, got {[(q.rule, q.scope, q.asked) for q in ordered]}"
        )
    worst = -math.inf
    for less, more in pairwise(ordered):
        if not np.array_equal(less.n_tokens, more.n_tokens):
            raise ValueError("paired differences want the same documents on both sides; score all shares in one call")
        change = ratio_of_sums(more.nats - less.nats, less.n_tokens)
        if change.stderr is None:
            raise ValueError("one document has no spread to compare a rise with; wanted several")
        worst = max(worst, _in_errors(change.value, change.stderr))
    return worst


def _in_errors(value: float, stderr: float) -> float:
    if stderr > 0:
        return value / stderr
    return 0.0 if value == 0 else math.copysign(math.inf, value)


def _quality(
    sparse: Sparsified,
    found: Likelihood,
    dense: Likelihood,
    n_tokens: Sums,
    n_bytes: Sequence[int] | None,
    level: float,
) -> Quality:
    bits = None if n_bytes is None else ratio_of_sums(found.nats, n_bytes, scale=1 / math.log(2), level=level)
    return Quality(
        rule=sparse.rule.name,
        asked=sparse.rule.asked,
        scope=scope_name(sparse.model, sparse.layers),
        kept_share=sparse.kept_share,
        kept_by_layer=sparse.kept_by_layer,
        perplexity=exponential(ratio_of_sums(found.nats, n_tokens, level=level)),
        dppl_pct=percent_change(found.nats, dense.nats, n_tokens, level=level),
        kl_to_dense=ratio_of_sums(found.kl, n_tokens, level=level),
        bits_per_byte=bits,
        nats=found.nats,
        n_tokens=n_tokens,
    )
