"""Tasks of the probe manifest, data/probe_tasks.jsonl: every line with scored items is a case, so that adding a line adds an eval.

Budget: 3 CPU seconds.
"""

import numpy as np

from trialplate.scoring.probing import continuation_scores
from trialplate.tasks.manifest import load_manifest


def tasks(config):
    from trialplate.plugin import options

    path = options.folder(config, "data") / "probe_tasks.jsonl"
    return [t for t in load_manifest(path) if t.kind == "scored" and t.scored]


def pytest_generate_tests(metafunc):
    metafunc.parametrize("task", [t.task_id for t in tasks(metafunc.config)])


def test_manifest_task(task, request, scorer, control_scorer, measure, uses, limit):
    """Whole-answer log-likelihood against the foils of the line."""
    found = next(t for t in tasks(request.config) if t.task_id == task)
    items = uses(task, list(found.items())[: limit(len(found.items()))], license=found.license or None)
    ours, twins = continuation_scores(scorer, items), continuation_scores(control_scorer, items)
    chance = float(np.mean([1 / (1 + len(i.foils)) for i in items]))
    measure("acc_gt", ours.beats_foil, items, chance, kind="chance", task=task)
    measure("margin", ours.difference, items, twins.difference, task=task)
    assert np.isfinite(ours.answer).all()
