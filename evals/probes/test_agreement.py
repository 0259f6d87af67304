"""Subject-verb agreement, plain and with a noun of the other number between subject and verb (as in Linzen et al. 2016, arXiv:1611.01368).

Budget: 2 CPU seconds.
"""

import pytest

from trialplate.scoring.probing import next_token_scores
from trialplate.tasks.probes.agreement import agreement_items


@pytest.mark.requires_tokens("single_token_verbs")
@pytest.mark.parametrize("task", ["agreement", "agreement_attractor"])
def test_agreement(task, scorer, control_scorer, measure, uses, limit):
    """acc_gt: the verb in the subject's number outscores the other form; ties count half."""
    found = agreement_items(scorer.model.tokenizer.encode, None, 1000, attractor=task == "agreement_attractor")
    items = uses(task, found[: limit(200)], seed=1000)
    ours, twins = next_token_scores(scorer, items), next_token_scores(control_scorer, items)
    measure("acc_gt", ours.beats_foil, items, 0.5, kind="chance", task=task)
    measure("logit_diff", ours.difference, items, twins.difference, task=task)
    assert all(len(i.foils) == 1 for i in items)
