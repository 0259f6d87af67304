"""Trained coders against coders that cannot have learned anything: is what seeds have in common more than chance, and by how much?

    trained     coders of one configuration that differ by seed
    random      Gaussian decoders of the same shape
    untrained   the coders as they were initialised, of the same seeds
    twin        coders of the same configuration and seeds, trained on the activations of a model with random weights (optional)

Symbols: U = mean similarity over pairs of seeds, s0 = its chance level, adjusted = (U - s0) / (1 - s0), gain = adjusted(trained) - adjusted(control).

All arms keep the same latents, those that fire on held-out rows (a twin its own), so one chance level holds for all. Intervals have seeds as
observations, and are of the gain itself. A gain can be significant and mean nothing, so a minimum effect is asked for besides a bound above 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.seed_stability import Gain, Stability
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.evaluate import core_scores
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.programs.arms import After, Order, over_seeds, train_arms
from trialplate.sae.programs.conditions import (
    Condition,
    Similarity,
    lower,
    measure,
    shown,
    stability_record,
    subject,
)
from trialplate.sae.programs.control_arms import ARMS, arms_of, by_frequency, gains_of
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source

Conclusion = Literal["training_signal", "below_minimum_effect", "no_training_signal"]
Split = tuple[Source, Source]
GAINS = {"random": "gain", "untrained": "gain_over_untrained", "twin": "gain_over_twin"}
"""Under which name a result holds the gain of the trained coders over each control."""
_CONTROLS = {
    "random": "random directions",
    "untrained": "untrained coders",
    "twin": "coders of a random model",
}
_TRAINING = ("steps", "batch_size", "lr", "l1", "l0", "l0_target", "rows")
"""What coders say of their training that must be one, beside their seeds."""


@dataclass(frozen=True)
class ControlOptions:
    """What is trained and how it is judged.

    minimum_effect   least adjusted stability of the trained coders that counts as more than significance
    order            whether seeds draw the order of the rows too"""

    coder: CoderConfig
    settings: TrainingSettings
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    order: Order = "shared"
    minimum_effect: float = 0.1
    similarity: Similarity = field(default_factory=Similarity)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        if not 0 < self.minimum_effect < 1:
            raise StudyError(
                f"the least effect is a share of the way from chance to agreement, above 0 and below 1; got {self.minimum_effect}"
            )


def run_control(
    options: ControlOptions,
    rows: Source,
    held_out: Source,
    *,
    twin: Split | None = None,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """Train one coder a seed and return the result of `phase4a.json`; see `compare_with_controls`.

    twin: (rows, held-out rows) of a model with random weights, at the same site. StudyError where a coder cannot be trained or stays silent."""
    trained = _trained(options, (rows, held_out), None if folder is None else folder / "trained", device, after)
    other = None
    if twin is not None:
        other = _trained(options, twin, None if folder is None else folder / "twin", device, after)
    of_seed = {seed: seed for seed in options.seeds}
    return compare_with_controls(options, trained, rows, held_out, twin=other, init_seeds=of_seed)


def check_alike(coders: Sequence[Coder]) -> None:
    """Coders of one study have one description, sites and model included, and differ by seed. StudyError with what else does differ, where it is
    said: coders of other formats say nothing of their training, and whoever names them vouches."""
    first = coders[0].config
    for i, coder in enumerate(coders):
        names = [f.name for f in fields(CoderConfig) if f.name != "about"]
        if other := [name for name in names if getattr(coder.config, name) != getattr(first, name)]:
            shown = ", ".join(f"{name} {getattr(first, name)!r} and {getattr(coder.config, name)!r}" for name in other)
            raise StudyError(
                f"coders of one study differ by seed alone; coders 0 and {i} have {shown}. Look at others in runs of their own"
            )
    check_training([coder.config.about.get("training", {}) for coder in coders])


def check_training(said: Sequence[Any]) -> None:
    """What coders say of their training, in order: one of `steps`, `rows` and the like, and seeds of their own. Only what both of two coders say is
    compared; {} for one that says nothing. StudyError for an init_seed that is there twice, and for what differs beside seeds."""
    known = [(i, one) for i, one in enumerate(said) if isinstance(one, Mapping)]
    for (i, one), (j, other) in combinations(known, 2):
        if changed := [n for n in _TRAINING if n in one and n in other and one[n] != other[n]]:
            shown = ", ".join(f"{name} {_brief(one[name])} and {_brief(other[name])}" for name in changed)
            raise StudyError(
                f"coders of one study differ by seed alone; coders {i} and {j} were trained with {shown}. "
                "Look at others in runs of their own"
            )
        if "init_seed" in one and one["init_seed"] == other.get("init_seed"):
            raise StudyError(
                f"coders {i} and {j} were both begun with init_seed {one['init_seed']}, so what they have in common may be their beginning; "
                "give coders of different seeds (`sae train --seeds`)"
            )


def given_coders(coders: Mapping[int, Coder], held_out: Source) -> Condition:
    """Coders that were trained elsewhere, as a condition: seeds are labels that tell them apart. StudyError for coders that differ by more than a
    seed, and for a silent one."""
    check_seeds(list(coders), "coders")
    check_alike(list(coders.values()))
    scores = {seed: core_scores(coder, held_out) for seed, coder in coders.items()}
    if silent := [seed for seed, one in scores.items() if not one.firing.alive.any()]:
        raise StudyError(f"no latent of coder {silent[0]} fires on the held-out rows; is this the site that it reads?")
    return Condition("given", {}, tuple(coders), coders, scores, dict.fromkeys(coders, ""))


def compare_with_controls(
    options: ControlOptions,
    trained: Condition,
    rows: Source,
    held_out: Source,
    *,
    twin: Condition | None = None,
    init_seeds: Mapping[int, int] | None = None,
) -> dict[str, Any]:
    """The result of `phase4a.json`, of coders that are there.

    init_seeds: the seed each was initialised with; the untrained arm is then step 0 of these very coders, and its gain is paired. Without it the
    untrained arm has seeds of its own. Keys: `trained`, `random`, `untrained`, `twin` (null where there is none), each with raw, chance and adjusted
    estimates and pairs; `gain`, `gain_over_untrained`, `gain_over_twin`; `comparison`; `test`; `by_frequency` (latents weighted by how often they
    fire; null for a similarity without weights); `minimum_effect`; `conclusion`. StudyError for controls of another shape or other seeds."""
    if twin is not None and twin.seeds != trained.seeds:
        raise StudyError(f"a twin has the seeds of what it controls, got {twin.seeds} beside {trained.seeds}")
    arms, test, shape = arms_of(options.similarity, trained, twin, init_seeds)
    gains = gains_of(options.similarity, arms, paired=init_seeds is not None)
    found = {
        "subject": {
            **subject(rows, held_out, [trained]),
            "twin": None if twin is None else {str(seed): coder_digest(coder) for seed, coder in twin.coders.items()},
        },
        "architecture": next(iter(trained.coders.values())).config.architecture,
        "shape": shape,
        "condition": trained.record(arms["trained"]),
        **{name: _arm(arms[name], trained.seeds) if name in arms else None for name in ARMS},
        "by_frequency": by_frequency(options.similarity, trained),
        **_compared(gains, arms),
        "test": test,
        **_judged(options.minimum_effect, arms["trained"].adjusted, gains),
    }
    result: dict[str, Any] = plain(found)
    return result


def conclude(minimum: float, adjusted: Estimate, gains: Sequence[Estimate]) -> Conclusion:
    """ "training_signal": every gain is above 0 by its lower bound, and the adjusted score reaches the minimum effect; "below_minimum_effect": the
    bounds only; otherwise "no_training_signal"."""
    if not gains:
        raise ValueError("nothing is concluded without a control")
    if min(lower(gain) for gain in gains) <= 0:
        return "no_training_signal"
    return "training_signal" if adjusted.value >= minimum else "below_minimum_effect"


def concluded(result: Mapping[str, Any]) -> str:
    """The conclusion in words, with the controls that were not beaten and by how much, or with the effect that was too small."""
    if result["conclusion"] == "no_training_signal":
        beyond = {name: result[key] for name, key in GAINS.items() if result[key] is not None}
        said = [
            f"{_CONTROLS[name]} {'are' if gain['value'] <= 0 else 'may be'} as stable (gain {shown(gain)})"
            for name, gain in beyond.items()
            if gain["ci"][0] <= 0
        ]
        return f"no training signal: {'; '.join(said)}"
    least = result["minimum_effect"]
    effect = f"above every control, adjusted stability {least['adjusted']:.3f}"
    if result["conclusion"] == "below_minimum_effect":
        return f"below the minimum effect: {effect}, and {least['wanted']:g} is asked for"
    return f"training signal: {effect}"


def control_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    least = result["minimum_effect"]
    lines = [
        "# Trained coders against controls",
        "",
        f"Conclusion: **{result['conclusion']}**, {concluded(result).partition(': ')[2]}.",
        "",
        f"{result['architecture']}, {result['shape'][0]} latents of {result['shape'][1]} channels, "
        f"{len(result['condition']['seeds'])} seeds. Adjusted stability {least['adjusted']:.3f}, at least {least['wanted']:g} is asked for.",
        "",
        "| arm | similarity | chance | adjusted | gain of the trained |",
        "|---|---|---|---|---|",
    ]
    for name in ARMS:
        arm = result[name]
        if arm is not None:
            gain = shown(result[GAINS[name]]) if name in GAINS else ""
            lines.append(
                f"| {name} | {shown(arm['raw'])} | {arm['chance']['value']:.3f} | {shown(arm['adjusted'])} | {gain} |"
            )
    return "\n".join(lines)


def _trained(options: ControlOptions, rows: Split, folder: Path | None, device: str, after: After) -> Condition:
    arms = over_seeds(options.coder, options.settings, options.seeds, order=options.order)
    found = measure(train_arms(arms, *rows, folder=folder, device=device, after=after), arms, rows[1])
    if not found.is_whole:
        seed, reason = next(iter(found.missing.items()))
        raise StudyError(f"{len(found.missing)} of {len(arms)} coders are missing, first that of seed {seed}: {reason}")
    return found


def _brief(value: Any) -> str:
    return value[:12] if isinstance(value, str) else f"{value}"


def _arm(found: Stability, seeds: Sequence[int]) -> dict[str, Any]:
    return {"seeds": seeds, "n_pairs": len(found.pairs), "mean": found.raw.value, **stability_record(found)}


def _compared(gains: Mapping[str, Gain], arms: Mapping[str, Stability]) -> dict[str, Any]:
    over_random = gains["random"]
    return {
        "gain": over_random.adjusted,
        "gain_over_untrained": gains["untrained"].adjusted,
        "gain_over_twin": gains["twin"].adjusted if "twin" in gains else None,
        "comparison": {
            "difference": over_random.raw.value,
            "difference_low": lower(over_random.raw),
            "raw": over_random.raw,
            "ratio": arms["trained"].raw.value / arms["random"].raw.value if arms["random"].raw.value else None,
            "effect_size_cohens_d": over_random.effect_size,
        },
    }


def _judged(minimum: float, adjusted: Estimate, gains: Mapping[str, Gain]) -> dict[str, Any]:
    controls = [gain.adjusted for gain in gains.values()]
    return {
        "minimum_effect": {
            "wanted": minimum,
            "adjusted": adjusted.value,
            "adjusted_low": lower(adjusted),
            "reached": adjusted.value >= minimum,
        },
        "conclusion": conclude(minimum, adjusted, controls),
    }
