"""Which pictures the result of a study gives, by its role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from trialplate.figures.error_scaling import error_scaling, has_sizes, scaling_rows
from trialplate.figures.frontier import coder_points, frontier, frontier_points
from trialplate.figures.jobs import Jobs
from trialplate.figures.latent_density import density, density_rows
from trialplate.figures.measures import file_word
from trialplate.figures.seed_agreement import agreement, arm_rows, kind_rows, statistic_rows
from trialplate.figures.studies import Curves, Study, spread
from trialplate.figures.style import joined
from trialplate.figures.training_curves import curve_rows, training_curves


def _eval(study: Study) -> Jobs:
    with study.read() as result:
        coder = result["coder"]
        name = " ".join(
            part
            for part in (study.model, coder["site_in"], f"({coder['architecture']}, {coder['d_sae']} latents)")
            if part
        )
    yield "frontier", partial(frontier, coder_points(study), subject=name)
    yield "density", partial(density, density_rows(study), subject=name)


def _frontier(study: Study) -> Jobs:
    with study.read() as result:
        note = f"filled: the L0 of every seed lies within {100 * result['tolerance']:g} % of its target"
    yield "frontier", partial(frontier, frontier_points(study), subject=study.model, note=note)


def _control(study: Study) -> Jobs:
    with study.read() as result:
        least, conclusion = float(result["minimum_effect"]["wanted"]), str(result["conclusion"]).replace("_", " ")
        shape = " × ".join(str(n) for n in result["shape"])
        note = f"{result['architecture']}, {shape}"
    title = f"Agreement over seeds, trained coders and controls ({conclusion})"
    yield "agreement", partial(agreement, arm_rows(study), title=title, subject=study.model, note=note, least=least)


def _stability(study: Study) -> Jobs:
    with study.read() as result:
        note = f"{result['n_coders']} {result['architecture']} coders; latents: {result['latents']}"
    yield "agreement", partial(agreement, statistic_rows(study), subject=study.model, note=note)


def _transcoder(study: Study) -> Jobs:
    with study.read() as result:
        delta = spread(result["delta"])
        ends = "" if delta.low is None else f" [{delta.low:.2f}, {delta.high:.2f}]"
        note = joined(result["rule"], f"floors of explained variance {'met' if result['floors_met'] else 'not met'}")
    title = f"Agreement over seeds, transcoders and autoencoders (difference {delta.value:.2f}{ends})"
    yield "agreement", partial(agreement, kind_rows(study), title=title, subject=study.model, note=note)


def _scaling(study: Study) -> Jobs:
    for axis, word in (("budget", "tokens"), ("d_sae", "width")):
        if has_sizes(study, axis):
            rows = scaling_rows(study, axis)
            sites: list[str] = list(dict.fromkeys(rows["site"]))
            for site in sites:
                name = word if len(sites) == 1 else f"{file_word(site)}_{word}"
                yield name, partial(error_scaling, rows[rows["site"] == site], subject=f"{study.model} {site}".strip())


STUDIES: dict[str, Callable[[Study], Jobs]] = {
    "eval": _eval,
    "frontier": _frontier,
    "phase4a": _control,
    "stability": _stability,
    "transcoder": _transcoder,
    "scaling": _scaling,
}
"""Roles of which there are pictures."""


def of_trainings(curves: Sequence[Curves]) -> Jobs:
    """The curves of one training, or of several over each other."""
    yield "curves", partial(training_curves, curve_rows(curves))
