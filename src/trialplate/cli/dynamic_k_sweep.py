"""A sweep over kept shares: which rules run where, on which texts, and what as many random units would do instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

from trialplate.activations.calibration import calibrated
from trialplate.activations.capture import collect, plan_for
from trialplate.activations.collectors.sample import RowSample
from trialplate.activations.decoding_speed import DecodingSpeed, decoding_speed, speedup_ceiling
from trialplate.activations.kernels import KernelName, SparseProjections
from trialplate.activations.quality import Quality, quality
from trialplate.activations.rules import Cett, RandomK, Rule, Threshold, TopK, require_share
from trialplate.activations.sites import Point, choose, down_projection
from trialplate.cli.dynamic_k_tables import Split
from trialplate.cli.study_texts import InputError, Texts
from trialplate.metrics.cett import cett_sparsity
from trialplate.models.causal_lm import CausalLM

RULES = ("topk", "threshold", "cett")
_PROMPT = 16
"""Tokens that are read before decoding is timed."""
_TOKENS, _STEPS = 32, 128
"""Tokens of each layer on which a bound is sought, and the steps of its grid."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is run: every rule with every share in `kept`, or, where there is a `size`, the threshold of this size.

    `each_layer` adds every layer alone. Random units are drawn from `seed`. Raises ValueError for a share outside (0, 1]."""

    kept: tuple[float, ...]
    rules: tuple[str, ...]
    each_layer: bool
    seed: int
    size: float | None = None

    def __post_init__(self) -> None:
        for share in self.kept:
            require_share(share)

    @property
    def calibrates(self) -> bool:
        """Whether limits are set on texts, which are then not scored."""
        return self.size is None and bool({"threshold", "cett"} & {*self.rules})

    @property
    def timed_rule(self) -> str:
        """The rule that is timed: the first that a kernel can decide fast, "" where there is none."""
        return next((rule for rule in self.rules if rule != "cett"), "")


@dataclass(frozen=True, slots=True)
class Timing:
    """How decoding is timed."""

    kernel: KernelName
    new_tokens: int
    repeats: int


class Swept(NamedTuple):
    """What was run: the rules by name, one a share, and in every scope the quality of each and of random units, with the share asked for."""

    rules: Mapping[str, Sequence[Rule]]
    quality: list[tuple[float, Quality]]
    by_chance: list[tuple[float, Quality]]


def layers_of(points: Sequence[Point]) -> list[int]:
    """The layers of points that are hidden units of an MLP. InputError for others: nothing else is left out here."""
    if others := [p.name for p in points if p.layer is None or not p.name.endswith(".mlp_act")]:
        raise InputError(f"--layers: units are left out of the MLPs of layers, such as 0 3 or 50%; got {others[0]}")
    return sorted(p.layer for p in points if p.layer is not None)


def with_prefix(lm: CausalLM, texts: Texts) -> dict[str, list[list[int]]]:
    """The texts after the token that stands before a text without context, so that every token of theirs is scored.

    InputError for a model that has none."""
    if lm.prefix_id is None:
        raise InputError(
            f"{lm.label} has neither a beginning nor an end token to put before texts, so they cannot be scored whole"
        )
    has_it = lm.tokenizer.adds_bos  # then the texts begin with it already
    return {task: [ids if has_it else [lm.prefix_id, *ids] for ids in rows] for task, rows in texts.documents.items()}


def run_sweep(lm: CausalLM, texts: Split, layers: Sequence[int], sweep: Sweep) -> Swept:
    """Score the texts under every rule and share, in all chosen layers together and, if asked for, in each alone."""
    rules = {name: _rules(lm, name, texts, layers, sweep) for name in sweep.rules}
    kept = sweep.kept or [rule.asked for rule in rules["threshold"]]
    scopes = [list(layers), *([[layer] for layer in layers] if sweep.each_layer and len(layers) > 1 else [])]
    shares = [share for _ in rules for share in kept]
    fewer = [share for share in kept if share < 1]
    found: list[tuple[float, Quality]] = []
    by_chance: list[tuple[float, Quality]] = []
    for scope in scopes:
        asked = [rule for some in rules.values() for rule in some]
        random = [RandomK(share, torch.Generator().manual_seed(sweep.seed)) for share in fewer]
        both = quality(lm, texts.scored, [*asked, *random], layers=scope, n_bytes=texts.n_bytes)
        found += zip(shares, both[: len(asked)], strict=True)
        by_chance += zip(fewer, both[len(asked) :], strict=True)
    return Swept(rules, found, by_chance)


def require_kernel(lm: CausalLM, layers: Sequence[int], sweep: Sweep, timing: Timing) -> None:
    """Raises KernelError where the kernel cannot run, InputError where no rule can be timed."""
    if not sweep.timed_rule:
        raise InputError("--speed times topk or threshold; cett costs more than it saves: name another --rule too")
    SparseProjections(lm, TopK(0.5), layers, kernel=timing.kernel)


def time_decoding(
    lm: CausalLM, texts: Split, layers: Sequence[int], sweep: Sweep, timing: Timing, rules: Mapping[str, Sequence[Rule]]
) -> tuple[list[DecodingSpeed], list[float]]:
    """Decoding after the beginning of the first text with every share below 1, and the most that each share can gain."""
    some = [rule for rule in rules[sweep.timed_rule] if rule.asked < 1] or rules[sweep.timed_rule]
    prompt = texts.scored[0][: min(_PROMPT, lm.max_length - 1)]
    found = [
        decoding_speed(
            lm,
            prompt,
            rule,
            layers=layers,
            kernel=timing.kernel,
            new_tokens=timing.new_tokens,
            repeats=timing.repeats,
        )
        for rule in some
    ]
    return found, [speedup_ceiling(lm, layers, kept=one.kept_share) for one in found]


def _rules(lm: CausalLM, name: str, texts: Split, layers: Sequence[int], sweep: Sweep) -> Sequence[Rule]:
    """A rule of that name for every share. Thresholds and bounds are set on texts of their own."""
    if sweep.size is not None:
        return [_of_size(lm, texts, layers, sweep.size)]
    if name == "threshold":
        return calibrated(lm, texts.calibration, sweep.kept, layers)
    if name == "topk":
        return [TopK(share) for share in sweep.kept]
    return bounds_of_shares(lm, texts.calibration, sweep.kept, layers, sweep.seed)


def _of_size(lm: CausalLM, texts: Split, layers: Sequence[int], size: float) -> Threshold:
    """The threshold of one size in all layers, which aims at the share that it keeps. InputError where it keeps none."""
    limits = dict.fromkeys(layers, size)
    (found,) = quality(lm, texts.scored, [Threshold(limits, 1.0)], layers=layers)
    if not found.kept_share:
        raise InputError(f"--threshold {size:g}: no unit writes as much as that on any token; name a smaller one")
    return Threshold(limits, found.kept_share)


def bounds_of_shares(
    lm: CausalLM, documents: Sequence[Sequence[int]], kept: Sequence[float], layers: Sequence[int], seed: int
) -> list[Cett]:
    """For every share the largest bound t = i / 128 under which at least that share of the units stays, over some tokens of all layers together.

    The share that stays falls as t grows, so t is found by bisection; a share of 1 gets t = 0."""
    points = choose(lm, [f"L{layer}.mlp_act" for layer in layers])
    samples = {("text", point.name): [RowSample(_TOKENS, seed)] for point in points}
    collect(lm, plan_for(lm, {"text": documents}), points, samples)
    seen = [
        (
            torch.from_numpy(samples["text", point.name][0].result().values),
            down_projection(lm, layer).rows.float().cpu(),
        )
        for point, layer in zip(points, layers, strict=True)
    ]

    @cache
    def stays(step: int) -> float:
        return sum(float(1 - cett_sparsity(rows, down, step / _STEPS).mean()) for rows, down in seen) / len(seen)

    return [Cett(_last_step(stays, share) / _STEPS) for share in kept]


def _last_step(stays: Callable[[int], float], share: float) -> int:
    """The last step at which at least the share stays; 0 where that is none."""
    low, high = 0, _STEPS  # at _STEPS the whole output may go
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if stays(middle) >= share else (low, middle)
    return low
