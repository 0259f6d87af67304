"""Indirect object identification (Wang et al. 2022, arXiv:2211.00593): after "When A and B ..., B gave it to" the model names A.

Budget: 4 CPU seconds.
"""

import numpy as np
import pytest

from trialplate.scoring.probing import next_token_scores
from trialplate.tasks.probes.ioi import ioi_items


@pytest.mark.requires_tokens("single_token_names")
@pytest.mark.parametrize("order", ["ABBA", "BABA"])
@pytest.mark.parametrize("task", ["ioi", "ioi_held_out_template"])
def test_ioi(task, order, scorer, control_scorer, measure, uses, limit):
    """Two accuracies that differ by twenty points in the literature, so both are named: acc_gt counts answers above the subject's name,
    acc_top1 answers that are the argmax of the whole vocabulary. ABBA and BABA are the orders in which the names come. A scene is told twice in
    each order, with either name as the answer: the two are one cluster."""
    template = "held_out" if task == "ioi_held_out_template" else "trained"
    drawn = ioi_items(scorer.model.tokenizer.encode, limit(200) * 2, seed=1000, template=template)
    items = uses(task, [i for i in drawn if i.group.startswith(order)], seed=1000)
    ours, twins = next_token_scores(scorer, items), next_token_scores(control_scorer, items)
    scenes = [i // 2 for i in range(len(items))]
    where = {"task": task, "order": order}
    measure("logit_diff", ours.difference, items, twins.difference, clusters=scenes, **where)
    measure("acc_gt", ours.beats_foil, items, 0.5, kind="chance", clusters=scenes, **where)
    measure("acc_top1", ours.is_top1, items, twins.is_top1, clusters=scenes, **where)
    assert len(items) == limit(200)
    assert np.isfinite(ours.difference).all()
