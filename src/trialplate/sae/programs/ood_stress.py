"""What a shift of the texts costs the probes of a coder: trained and chosen on the source domain, tested on source and target.

Symbols, by test text i: c_i and b_i whether the probe of the coder's latents and that of the baseline are right. The baseline probes the raw
activations with as few columns, on the very same texts; a random coder of the same shape and L0 is the control.

    drop         mean c_i(source) - mean c_i(target)
    excess drop  mean (c_i - b_i)(source) - mean (c_i - b_i)(target): what the coder loses beyond the activations it reads

A small drop is no merit of a probe that knew nothing to begin with, so an absolute floor in both domains stands beside it. Where the shift pairs
its test texts, every interval is of differences within pairs; groups (a noun, a country) are its clusters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from trialplate.activations.sites import Point
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.sparse_probing import KS, Probed, dense_probe, digest_of_items, sparse_probe
from trialplate.metrics.statistics import clustered_mean, clustered_proportion, paired_difference
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.errors import StudyError
from trialplate.sae.pooled import RAW, pool, text_ids
from trialplate.sae.programs.conditions import shown
from trialplate.sae.programs.results import plain
from trialplate.tasks.shifted_texts import ShiftedTexts, Text

Matrix = NDArray[np.float64]
CODER, RANDOM, DENSE = "coder", "random", "dense"


class Features(NamedTuple):
    """Features of every part of a shift, [texts, width] each: means over the tokens of latents or of channels."""

    train: Matrix
    valid: Matrix
    source: Matrix
    target: Matrix


@dataclass(frozen=True)
class OodOptions:
    """ks: columns that a probe may read, chosen on the validation texts of the source. floor_source, floor_target: the least accuracy, as the lower end of
    its interval, below which the drop says nothing; 0.5 is chance."""

    ks: tuple[int, ...] = KS
    floor_source: float = 0.6
    floor_target: float = 0.55

    def __post_init__(self) -> None:
        if not all(0.5 <= floor <= 1 for floor in (self.floor_source, self.floor_target)):
            raise StudyError(
                f"a floor of accuracy lies between chance 0.5 and 1, got {self.floor_source} and {self.floor_target}"
            )


@dataclass(frozen=True)
class _Arm:
    """One kind of features, probed: rightness of every test text in both domains."""

    k: int
    source: Matrix
    target: Matrix


def run_ood_stress(options: OodOptions, shift: ShiftedTexts, features: Mapping[str, Features]) -> dict[str, Any]:
    """The result of `ood.json`. features: "coder", "raw" (the activations that it reads) and "random" (its random twin), of the same texts.

    `drop`, `excess_drop`: see above; `arms`: accuracy in both domains and drop of each; `floors`: least and found; `items`: the digest of the texts, the
    same for all arms. A probe of all channels (`dense`) is a reference. StudyError where an arm is missing or has not one row a text."""
    if missing := [name for name in (CODER, RAW, RANDOM) if name not in features]:
        raise StudyError(
            f"a drop is read beside its baseline and its control; no features of {', '.join(missing)} were given"
        )
    items = digest_of_items(
        (part, [text.text for text in texts], [bool(text.label) for text in texts]) for part, texts in _parts(shift)
    )
    arms = {name: _probed(name, shift, found, options.ks, items) for name, found in features.items()}
    arms[DENSE] = _probed(DENSE, shift, features[RAW], None, items)
    groups = _groups(shift.source), _groups(shift.target)
    rows = {name: _row(arm, groups, shift.paired) for name, arm in arms.items()}
    coder, raw, control = arms[CODER], arms[RAW], arms[RANDOM]
    excess = _drop(coder.source - raw.source, coder.target - raw.target, groups, shift.paired)
    floors = {
        "source": _floor(rows[CODER]["source"], options.floor_source),
        "target": _floor(rows[CODER]["target"], options.floor_target),
    }
    result: dict[str, Any] = plain(
        {
            "shift": _about(shift),
            "items": items,
            "baseline_items_match": True,  # one set of texts for all arms; other rows are refused above
            "arms": rows,
            "drop": rows[CODER]["drop"],
            "excess_drop": excess,
            "beyond_random_source": paired_difference(coder.source, control.source, clusters=groups[0]),
            "beyond_random_target": paired_difference(coder.target, control.target, clusters=groups[1]),
            "floors": floors,
            "floors_met": all(floor["met"] for floor in floors.values()),
        }
    )
    return result


def shift_features(
    model: CausalLM, point: Point, coder: Coder, shift: ShiftedTexts, random: Coder, skip: Iterable[int] | None = None
) -> dict[str, Features]:
    """Features of every part of a shift for the coder, the activations that it reads and its random twin, all from one pass of the model.

    skip: ids that are read and not counted (None: beginnings, ends and paddings). CoderError for coders of another width."""
    texts = [(text.text,) for _, part in _parts(shift) for text in part]
    pooled = pool(model, point, {CODER: coder, RANDOM: random}, text_ids(model, texts), skip)
    ends = np.cumsum([len(part) for _, part in _parts(shift)])[:-1]
    return {name: Features(*np.split(means, ends)) for name, means in pooled.means.items()}


def ood_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    shift, met = result["shift"], "met" if result["floors_met"] else "**not met**"
    lines = [
        f"# Shift of texts: {shift['name']}",
        "",
        f"{shift['question']} Source: {shift['source']} ({shift['n_source']} test texts). Target: {shift['target']} ({shift['n_target']}).",
        "",
        "| features | k | accuracy, source | accuracy, target | drop |",
        "|---|---|---|---|---|",
    ]
    for name, arm in result["arms"].items():
        lines.append(
            f"| {name} | {arm['k']} | {shown(arm['source'])} | {shown(arm['target'])} | {shown(arm['drop'])} |"
        )
    lines += [
        "",
        f"Drop beyond that of the raw activations: {shown(result['excess_drop'])}. Floors of accuracy {met}.",
        f"Accuracy beyond that of a random coder of the same shape and L0: source {shown(result['beyond_random_source'])}, "
        f"target {shown(result['beyond_random_target'])}.",
    ]
    return "\n".join(lines)


def _probed(name: str, shift: ShiftedTexts, found: Features, ks: Sequence[int] | None, items: str) -> _Arm:
    """Train on train, choose on valid, and look at both test sets once."""
    parts = dict(_parts(shift))
    for (part, texts), rows in zip(parts.items(), found, strict=True):
        if len(rows) != len(texts):
            raise StudyError(
                f"features {name!r} of {part}: wanted a row for each of {len(texts)} texts, got {len(rows)}"
            )
    y = {part: np.array([bool(text.label) for text in texts]) for part, texts in parts.items()}
    given = (found.train, y["train"], found.valid, y["valid"], found.source, y["source"])
    probed: Probed = (
        dense_probe(*given, items=items) if ks is None else sparse_probe(*given, _fitting(ks, found), items=items)
    )
    best = probed.chosen
    says = best.probe.says(np.asarray(found.target)[:, best.columns])
    right = [probed.correct().astype(np.float64), (says == y["target"]).astype(np.float64)]
    return _Arm(best.k, right[0], right[1])


def _fitting(ks: Sequence[int], found: Features) -> list[int]:
    """The ks that this width has; a coder and what it reads may be narrower than the largest k."""
    fitting = [k for k in ks if k <= found.train.shape[1]]
    if not fitting:
        raise StudyError(f"a probe of {min(ks)} columns does not fit features of {found.train.shape[1]}")
    return fitting


def _row(arm: _Arm, groups: tuple[list[str], list[str]], paired: bool) -> dict[str, Any]:
    return {
        "k": arm.k,
        "source": clustered_proportion(arm.source, groups[0]),
        "target": clustered_proportion(arm.target, groups[1]),
        "drop": _drop(arm.source, arm.target, groups, paired),
    }


def _drop(source: Matrix, target: Matrix, groups: tuple[list[str], list[str]], paired: bool) -> Estimate:
    """mean(source) - mean(target): within pairs, or of two sets of texts (variances add; Student t with the smaller number of groups, less one)."""
    if paired:
        return paired_difference(source, target, clusters=groups[0])
    one, two = clustered_mean(source, groups[0]), clustered_mean(target, groups[1])
    value, n = one.value - two.value, len(source) + len(target)
    if one.stderr is None or two.stderr is None:
        return Estimate(value, n, None, None, method="difference of clustered means")
    stderr, degrees = math.hypot(one.stderr, two.stderr), min(len(set(part)) for part in groups) - 1
    half = float(stdtrit(degrees, 0.975)) * stderr
    return Estimate(
        value, n, stderr, (value - half, value + half), method=f"difference of clustered means, t with {degrees}"
    )


def _floor(found: Estimate, least: float) -> dict[str, Any]:
    """A floor is met by the lower end of the interval; without an interval it is not."""
    low = None if found.ci is None else found.ci[0]
    return {"least": least, "low": low, "met": low is not None and low >= least}


def _parts(shift: ShiftedTexts) -> list[tuple[str, tuple[Text, ...]]]:
    return [(part, getattr(shift, part)) for part in ("train", "valid", "source", "target")]


def _groups(texts: Sequence[Text]) -> list[str]:
    return [text.group for text in texts]


def _about(shift: ShiftedTexts) -> dict[str, Any]:
    return {
        "name": shift.name,
        "question": shift.question,
        "source": shift.source_is,
        "target": shift.target_is,
        "paired": shift.paired,
        "texts": shift.digest,
        **{f"n_{part}": len(texts) for part, texts in _parts(shift)},
    }
