"""Pictures of the result of a study about coders, into the figures/ of its run, before the manifest is written: they are part of what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialplate.cli.study_figures import draw_figures

if TYPE_CHECKING:
    from trialplate.sae.programs.runs import StudyRun


def draw_result(run: StudyRun) -> int:
    """Draw what the result of a run allows; returns the number of pictures, 0 for a role of which there are none. What cannot be drawn is said on the
    error stream, and the result stays."""
    from trialplate.figures.study_jobs import STUDIES

    return draw_figures(run) if run.role in STUDIES else 0
