"""Which pictures the result of a study gives, by its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from trialplate.figures.ablation_axes import ablation, ablation_rows
from trialplate.figures.error_scaling import error_scaling, has_sizes, scaling_rows
from trialplate.figures.frontier import coder_points, frontier, frontier_points
from trialplate.figures.jobs import Jobs
from trialplate.figures.latent_density import density, density_rows
from trialplate.figures.measures import file_word
from trialplate.figures.seed_agreement import agreement, arm_rows, kind_rows, statistic_rows
from trialplate.figures.studies import Curves, Study, spread
from trialplate.figures.style import joined
from trialplate.figures.training_curves import curve_rows, training_curves

_GAINS = {
    "random directions": "gain",
    "untrained coders": "gain_over_untrained",
    "coders of a random model": "gain_over_twin",
}
"""Controls of trained coders, and the keys of what these gain over them."""


def _eval(study: Study) -> Jobs:
    with study.read() as result:
        coder = result["coder"]
        name = " ".join(
            part
            for part in (study.model, coder["site_in"], f"({coder['architecture']}, {coder['d_sae']} latents)")
            if part
        )
    yield "frontier", partial(frontier, coder_points(study), subject=name, judged=study.rows)
    yield "density", partial(density, density_rows(study), subject=name, judged=study.rows)


def _frontier(study: Study) -> Jobs:
    with study.read() as result:
        note = f"filled: the L0 of every seed lies within {100 * result['tolerance']:g} % of its target"
    yield "frontier", partial(frontier, frontier_points(study), subject=study.place, note=note, judged=study.rows)


def _control(study: Study) -> Jobs:
    with study.read() as result:
        least, verdict = float(result["minimum_effect"]["wanted"]), _verdict(result)
        shape = " × ".join(str(n) for n in result["shape"])
        note = f"{result['architecture']}, {shape}"
    title = f"Agreement over seeds: trained coders are {verdict}"
    yield "agreement", partial(agreement, arm_rows(study), title=title, subject=study.place, note=note, least=least)


def _verdict(result: Mapping[str, Any]) -> str:
    """The conclusion of a control in words; where training was not seen to matter, which controls are as stable: those that the gain over has no lower
    bound above 0."""
    if result["conclusion"] == "training_signal":
        return "more stable than every control"
    if result["conclusion"] == "below_minimum_effect":
        return "more stable than every control, by less than was asked for"
    gains = {name: spread(result[key]) for name, key in _GAINS.items() if result[key] is not None}
    level = [name for name, gain in gains.items() if gain.low is None or gain.low <= 0]
    return f"no more stable than {' and '.join(level)}"


def _stability(study: Study) -> Jobs:
    with study.read() as result:
        note = joined(
            f"{result['n_coders']} {result['architecture']} coders; latents: {result['latents']}",
            "mutual nearest neighbours are at about one half by chance"
            if "mutual_nearest" in result["statistics"]
            else "",
        )
    yield "agreement", partial(agreement, statistic_rows(study), subject=study.place, note=note)


def _transcoder(study: Study) -> Jobs:
    with study.read() as result:
        delta = spread(result["delta"])
        ends = "" if delta.low is None else f" [{delta.low:.3f}, {delta.high:.3f}]"
        note = joined(result["rule"], f"floors of explained variance {'met' if result['floors_met'] else 'not met'}")
    difference = f"difference {delta.value:.3f}{ends} of the way from chance to identity".replace("-", "−")
    title = f"Agreement over seeds, transcoders and autoencoders ({difference})"
    yield "agreement", partial(agreement, kind_rows(study), title=title, subject=study.place, note=note)


def _scaling(study: Study) -> Jobs:
    for axis, word in (("budget", "tokens"), ("d_sae", "width")):
        if has_sizes(study, axis):
            rows = scaling_rows(study, axis)
            sites: list[str] = list(dict.fromkeys(rows["site"]))
            for site in sites:
                name = word if len(sites) == 1 else f"{file_word(site)}_{word}"
                subject = f"{study.model} {site}".strip()
                yield name, partial(error_scaling, rows[rows["site"] == site], subject=subject, judged=study.rows)


def _ablation(study: Study) -> Jobs:
    for axis, word in (("k", "k"), ("d_sae", "width")):
        rows = ablation_rows(study, axis)
        if rows.loc[rows["value"].notna(), "size"].nunique() > 1:
            yield word, partial(ablation, rows, subject=study.place, judged=study.rows)


STUDIES: dict[str, Callable[[Study], Jobs]] = {
    "eval": _eval,
    "frontier": _frontier,
    "phase4a": _control,
    "stability": _stability,
    "transcoder": _transcoder,
    "scaling": _scaling,
    "ablation": _ablation,
}
"""Roles of which there are pictures."""


def of_trainings(curves: Sequence[Curves]) -> Jobs:
    """The curves of one training, or of several over each other."""
    places = {one.place for one in curves}
    subject = places.pop() if len(places) == 1 else ""
    targets = [one.l0_target for one in curves if one.l0_target is not None]
    yield "curves", partial(training_curves, curve_rows(curves), subject=subject, l0_targets=targets)
