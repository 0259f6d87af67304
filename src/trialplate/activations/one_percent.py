"""How much can be left out before perplexity rises by one percent: one number for the sparsity of a model, whatever its activation function.

    topk_ppl1  the smallest share k = n / d with perplexity <= 1.01 x dense, n units a token and layer
    cett_ppl1  the share of units that is left out at the largest t with perplexity <= 1.01 x dense (CETT-PPL-1 %, Luo et al. 2024, arXiv:2411.02335)

Found by bisection over whole numbers (n of d units; t in steps of a grid): the setting that is returned keeps within the bound, and its neighbour
was seen to break it. Perplexity rises as less is kept but for the noise of the texts; where that noise makes it cross the bound more than once,
one of the crossings is found. The interval comes from drawing the documents again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trialplate.activations.dynamic_k import Sparsified, chosen_layers, scope_name
from trialplate.activations.likelihood import Sums, likelihoods, texts_of
from trialplate.activations.quality import percent_change
from trialplate.activations.rules import Cett, Rule, TopK
from trialplate.activations.sites import down_projection
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import bootstrap
from trialplate.models.causal_lm import CausalLM


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting: what was asked for, the share of units that stayed, and what it costs."""

    asked: float
    kept_share: float
    dppl_pct: Estimate
    nats: Sums


@dataclass(frozen=True, slots=True)
class OnePercent:
    """The setting that was found.

    value       topk_ppl1 or cett_ppl1, n = documents; the interval is a percentile bootstrap over documents of where the line through the settings
                that were tried crosses the bound (it interpolates, so it can lie a little to one side)
    asked       n / d, or t
    kept_share  units that stayed, counted
    tried       every setting that ran, in order of what stayed"""

    value: Estimate
    scope: str
    asked: float
    kept_share: float
    tried: tuple[Tried, ...]


def topk_ppl1(
    model: CausalLM,
    documents: Sequence[Sequence[int]],
    rng: np.random.Generator,
    *,
    layers: Sequence[int] | None = None,
    protect_first: int = 0,
    max_rise: float = 0.01,
    positions: int | None = None,
) -> OnePercent:
    """The smallest share of units with perplexity <= (1 + max_rise) x dense, ranked per token (`rules.TopK`). In (0, 1]; lower is sparser.

    About log2(d) passes over the documents. 1 where nothing can be left out, 1 / d where one unit a token will do: then the MLPs hardly matter for
    these texts. Where layers differ in width, d is that of the widest. Documents and layers as `quality.quality`; `rng` draws the documents of
    the interval. Raises ValueError for a `max_rise` that is not above 0."""
    search = _Search(model, documents, layers, protect_first, max_rise, positions)
    d = max(len(down_projection(model, layer).rows) for layer in search.layers)
    found = search.bisect(lambda n: TopK(n / d), breaks=0, fits=d)
    return search.conclude(found, [tried.asked for tried in search.in_order()], rng)


def cett_ppl1(
    model: CausalLM,
    documents: Sequence[Sequence[int]],
    rng: np.random.Generator,
    *,
    layers: Sequence[int] | None = None,
    protect_first: int = 0,
    max_rise: float = 0.01,
    steps: int = 128,
    positions: int | None = None,
) -> OnePercent:
    """The share of units left out at the largest t = i / steps with perplexity <= (1 + max_rise) x dense (`rules.Cett`). In [0, 1]; higher is sparser.

    About log2(steps) passes, each of a millisecond a token and layer on a processor. At t = 0 what writes nothing at all is left out.
    Everything else as `topk_ppl1`; ValueError for fewer than 2 steps too."""
    if steps < 2:
        raise ValueError(f"t is sought on a grid of i / steps, at least 2 steps, got {steps}")
    search = _Search(model, documents, layers, protect_first, max_rise, positions)
    found = search.bisect(lambda i: Cett(i / steps), breaks=steps, fits=0)
    return search.conclude(found, [1 - tried.kept_share for tried in search.in_order()], rng, dense=0.0)


class _Search:
    """Settings tried on the same texts, each once."""

    def __init__(
        self,
        model: CausalLM,
        documents: Sequence[Sequence[int]],
        layers: Sequence[int] | None,
        protect_first: int,
        max_rise: float,
        positions: int | None,
    ) -> None:
        if not max_rise > 0:
            raise ValueError(f"the rise that is allowed is a share above 0, got {max_rise}; 0.01 is one percent")
        self.model, self.protect_first, self.bound = model, protect_first, math.log1p(max_rise)
        self.layers = chosen_layers(model, layers)
        self.texts = texts_of(model, documents, positions=positions)
        self.dense = likelihoods(model, self.texts, [None])[0].nats
        self.tried: dict[int, Tried] = {}

    def bisect(self, rule: Callable[[int], Rule], *, breaks: int, fits: int) -> Tried:
        """The last setting from `fits` towards `breaks` that keeps within the bound. Of these two, neither runs on the way: one does by definition, one does not."""
        while abs(fits - breaks) > 1:
            middle = (fits + breaks) // 2
            if self._rise(self._try(middle, rule(middle))) <= self.bound:
                fits = middle
            else:
                breaks = middle
        return self._try(fits, rule(fits))

    def in_order(self) -> list[Tried]:
        """All that ran, by what stayed."""
        return sorted(self.tried.values(), key=lambda tried: tried.kept_share)

    def conclude(
        self, found: Tried, at: Sequence[float], rng: np.random.Generator, *, dense: float = 1.0
    ) -> OnePercent:
        """The value and where its interval comes from: `at` is the value of every setting in order, `dense` that of the dense model."""
        ordered = self.in_order()
        n_tokens = self.texts.n_tokens
        columns = np.stack([*(tried.nats - self.dense for tried in ordered), np.zeros_like(n_tokens), n_tokens], axis=1)
        places = np.array([*at, dense])

        def crossing(samples: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
            sums = samples.sum(axis=axis)  # [draws, settings + 2]
            return _crossing(places, sums[:, :-1] / sums[:, -1:], self.bound)

        drawn = bootstrap(columns, crossing, rng)
        own = at[ordered.index(found)]
        value = Estimate(own, drawn.n, drawn.stderr, drawn.ci, drawn.level, f"crossing of the bound, {drawn.method}")
        return OnePercent(value, scope_name(self.model, self.layers), found.asked, found.kept_share, tuple(ordered))

    def _try(self, setting: int, rule: Rule) -> Tried:
        if setting not in self.tried:
            sparse = Sparsified(self.model, rule, self.layers, protect_first=self.protect_first)
            nats = likelihoods(self.model, self.texts, [sparse])[0].nats
            change = percent_change(nats, self.dense, self.texts.n_tokens)
            self.tried[setting] = Tried(rule.asked, sparse.kept_share, change, nats)
        return self.tried[setting]

    def _rise(self, tried: Tried) -> float:
        """ln(perplexity / dense perplexity)."""
        return float((tried.nats - self.dense).sum() / self.texts.n_tokens.sum())


def _crossing(places: NDArray[np.float64], rises: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Where the line through (place, rise) first breaks the bound on the way from the dense model (last place, rise 0) down; the first place if nowhere."""
    breaks = rises > bound
    last = rises.shape[1] - 1 - breaks[:, ::-1].argmax(axis=1)
    last = np.where(breaks.any(axis=1), last, 0)
    following = np.minimum(last + 1, rises.shape[1] - 1)
    row = np.arange(len(rises))
    high, low = rises[row, last], rises[row, following]
    steep = np.where(high > low, high - low, 1.0)
    part = np.clip((high - bound) / steep, 0, 1)
    found: NDArray[np.float64] = np.where(
        breaks.any(axis=1), places[last] + part * (places[following] - places[last]), places[0]
    )
    return found
