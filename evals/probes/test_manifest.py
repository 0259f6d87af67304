"""Tasks of the probe manifest, data/probe_tasks.jsonl: every line with scored items is a case, so that adding a line adds an eval.

A line that names a seeded generator is a case too, unless it carries the generator's own name: those have evals of their own.
Budget: 3 CPU seconds.
"""

import numpy as np
import pytest

from trialplate.metrics import choices
from trialplate.scoring.probing import continuation_scores, next_token_scores
from trialplate.tasks.generators import generate, generator_of
from trialplate.tasks.manifest import load_manifest


def tasks(config):
    """The scored lines that this file runs, by id."""
    from trialplate.plugin import options

    lines = load_manifest(options.folder(config, "data") / "probe_tasks.jsonl")
    return {t.task_id: t for t in lines if t.kind == "scored" and not has_its_own_eval(t)}


def has_its_own_eval(task):
    """Whether a line only names a generator under the generator's own name."""
    generated = task.source is not None and task.source.type == "generator"
    return generated and (task.task_id == task.source.name or generator_of(task).make is None)


def pytest_generate_tests(metafunc):
    def needs(task):
        generated = task.source is not None and task.source.type == "generator"
        names = generator_of(task).requires if generated else ()
        return [pytest.mark.requires_tokens(*names)] if names else []

    metafunc.parametrize("task", [pytest.param(i, marks=needs(t)) for i, t in tasks(metafunc.config).items()])


VALUES = {
    "margin": lambda s: s.difference,
    "logit_diff": lambda s: s.difference,
    "acc_gt": lambda s: s.beats_foil,
    "exact_match": lambda s: s.is_top1,
    "acc_top1": lambda s: s.is_top1,
    "answer_logprob": lambda s: s.answer,
}


def test_manifest_task(task, request, scorer, control_scorer, measure, uses, limit):
    """acc_gt, and the metric of the line. `positions: last` compares logits of single tokens; else whole answers by log-likelihood."""
    line = tasks(request.config)[task]
    available = generate(line, scorer.model.tokenizer.encode)
    items = uses(task, available[: limit(len(available))], license=line.license or None)
    score = next_token_scores if line.metric == "logit_diff" else continuation_scores
    ours, twins = score(scorer, items), score(control_scorer, items)
    measure(
        "acc_gt", ours.beats_foil, items, choices.chance([1 + len(i.foils) for i in items]), kind="chance", task=task
    )
    for metric in {line.metric} - {"acc_gt", ""}:
        assert metric in VALUES, f"{task}: metric {metric!r} is none of {', '.join(VALUES)}"
        measure(metric, VALUES[metric](ours), items, VALUES[metric](twins), task=task)
    assert np.isfinite(ours.answer).all()
