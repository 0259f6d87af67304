"""Are transcoders as stable over seeds as autoencoders of the same shape? For each seed a transcoder (x to y) and an autoencoder of one side are
trained on the same tokens in the same order, and their stability above chance is compared.

Symbols: S = stability over seeds of decoders [m, d], adjusted by the chance level of their own m and d (`metrics.seed_stability`);
delta = S(transcoders) - S(autoencoders), with an interval over seeds, which both kinds share.

One condition, laid down beforehand, is the rule. Of a grid the result is its worst condition, the one of the lowest bound: what is claimed then holds
in all of them, and needs no correction (an intersection-union test, Berger 1982). Intervals of single conditions are widened for their number
(Bonferroni), and no best condition is named. Stability can be bought with reconstruction, so a floor of explained variance on held-out rows is
asked of both kinds, each on its own target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialplate.metrics.seed_stability import Gain, Stability, compare
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.one_side import OneSide, Side
from trialplate.sae.programs.arms import After, condition_key, over_seeds, train_arms
from trialplate.sae.programs.conditions import Condition, Similarity, lower, measure, shown
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source

Split = tuple[Source, Source]


@dataclass(frozen=True)
class TranscoderOptions:
    """What is compared.

    conditions  descriptions of the transcoder and how it is trained; one, unless a grid is meant
    seeds       at least 3; each draws the initial weights of one transcoder and one autoencoder
    compared    the side that the autoencoders reconstruct: "target", so that both kinds have decoders in one space, or "input"
    ev_floor    least explained variance on held-out rows, of every coder on its own target
    candidate   digest of the coder whose sites, width and sparsity these are, "" where none is meant"""

    conditions: tuple[tuple[CoderConfig, TrainingSettings], ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    compared: Side = "target"
    ev_floor: float = 0.5
    candidate: str = ""
    similarity: Similarity = field(default_factory=Similarity)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        if wrong := [coder for coder, _ in self.conditions if not coder.is_transcoder]:
            raise StudyError(f"a condition describes a transcoder: other site_out, d_out or skip; got {wrong[0]}")
        keys = [condition_key(coder, settings) for coder, settings in self.conditions]
        if not keys or len(set(keys)) < len(keys):
            raise StudyError(
                f"wanted one condition, or several that differ; got {len(keys)}, {len(set(keys))} of them different"
            )


@dataclass(frozen=True)
class _Kind:
    """Coders of one kind in one condition: measured, and their stability."""

    measured: Condition
    stability: Stability


def run_transcoder_stress(
    options: TranscoderOptions,
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """The result of `transcoder.json`, from paired rows.

    `delta`: the adjusted gain; of a grid that of its worst condition. `n_conditions`, `rule`: how it was chosen. `floors_met`. `conditions`: each
    with both kinds of coders, gain, interval widened for their number, and explained variances. StudyError for rows of one site, or a coder that
    cannot be trained: the worst of a grid with a hole is not known."""
    if not rows.is_paired:
        raise StudyError(
            "a transcoder reads one site and writes another, and these rows are of one; name both (--hook-name, --hook-name-out)"
        )
    found = []
    for coder, settings in options.conditions:
        place = None if folder is None else folder / condition_key(coder, settings)[:12]
        kinds = _kinds(options, coder, settings, (rows, held_out), place, device, after)
        found.append((coder, kinds, _gain(options, kinds, options.similarity.level)))
    coder, kinds, worst = min(found, key=lambda one: lower(one[2].adjusted))
    records = [_record(options, *one) for one in found]
    result: dict[str, Any] = plain(
        {
            "subject": {
                "candidate": options.candidate,
                "rows": rows.digest,
                "held_out": held_out.digest,
                "about_rows": rows.about,
                "coders": {of["transcoder"].measured.key: _digests(of) for _, of, _ in found},
            },
            "delta": worst.adjusted,
            "delta_raw": worst.raw,
            "delta_of": kinds["transcoder"].measured.key,
            "n_conditions": len(found),
            "rule": "the worst of all conditions" if len(found) > 1 else "one condition, laid down beforehand",
            "compared": options.compared,
            "floors_met": all(one["floors"]["met"] for one in records),
            "conditions": records,
        }
    )
    return result


def transcoder_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Transcoders against autoencoders: stability over seeds",
        "",
        f"Difference above chance: {shown(result['delta'])} ({result['rule']}; {result['n_conditions']} in all). "
        f"Floors of explained variance {'met' if result['floors_met'] else '**not met**'}.",
        "",
        "| condition | latents | k | transcoders | autoencoders | difference | lowest EV |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in result["conditions"]:
        both = [shown(one[kind]["stability"]["adjusted"]) for kind in ("transcoder", "autoencoder")]
        lowest = f"{one['floors']['lowest']:.3f}"
        cells = [one["key"][:8], one["d_sae"], one["k"], *both, shown(one["delta_widened"]), lowest]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _kinds(
    options: TranscoderOptions,
    coder: CoderConfig,
    settings: TrainingSettings,
    rows: Split,
    folder: Path | None,
    device: str,
    after: After,
) -> dict[str, _Kind]:
    own = (OneSide(rows[0], options.compared), OneSide(rows[1], options.compared))
    asked: dict[str, tuple[CoderConfig, Split]] = {
        "transcoder": (coder, rows),
        "autoencoder": (_autoencoder(coder, options.compared), own),
    }
    found = {}
    for kind, (config, split) in asked.items():
        arms = over_seeds(config, settings, options.seeds)
        place = None if folder is None else folder / kind
        measured = measure(train_arms(arms, *split, folder=place, device=device, after=after), arms, split[1])
        if not measured.is_whole:
            seed, reason = next(iter(measured.missing.items()))
            raise StudyError(
                f"{len(measured.missing)} of {len(arms)} {kind}s are missing, first that of seed {seed}: {reason}"
            )
        found[kind] = _Kind(measured, measured.stability(options.similarity))
    return found


def _autoencoder(coder: CoderConfig, side: Side) -> CoderConfig:
    """The autoencoder of one side with the transcoder's latents: same architecture, width and sparsity."""
    d, site = (coder.d_out, coder.site_out) if side == "target" else (coder.d_in, coder.site_in)
    return coder.with_(d_in=d, d_out=d, site_in=site, site_out=site, skip=False, centre_input=True)


def _gain(options: TranscoderOptions, kinds: Mapping[str, _Kind], level: float) -> Gain:
    both = (kinds[kind].stability for kind in ("transcoder", "autoencoder"))
    return compare(*both, paired=True, rng=options.similarity.rng(), level=level)


def _record(options: TranscoderOptions, coder: CoderConfig, kinds: Mapping[str, _Kind], gain: Gain) -> dict[str, Any]:
    widened = _gain(options, kinds, 1 - (1 - options.similarity.level) / len(options.conditions))
    lowest = min(ev for kind in kinds.values() for ev in kind.measured.values("ev").values())
    return {
        "key": kinds["transcoder"].measured.key,
        "architecture": coder.architecture,
        "d_sae": coder.d_sae,
        "k": coder.k,
        "delta": gain.adjusted,
        "delta_raw": gain.raw,
        "delta_widened": widened.adjusted,
        "effect_size": gain.effect_size,
        **{name: kind.measured.record(kind.stability) for name, kind in kinds.items()},
        "floors": {"least": options.ev_floor, "lowest": lowest, "met": lowest >= options.ev_floor},
    }


def _digests(kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    return {
        name: {str(seed): coder_digest(coder) for seed, coder in kind.measured.coders.items()}
        for name, kind in kinds.items()
    }
