"""Addition and subtraction. Sums to 20 are in the embedded model's domain, sums to 99 are not: they show that the harness can say no.

Budget: 4 CPU seconds.
"""

import pytest

from trialplate.scoring.probing import continuation_scores
from trialplate.tasks.probes.arithmetic import arithmetic_items


@pytest.mark.parametrize("operation", ["add", "sub"])
@pytest.mark.parametrize("task", ["arithmetic_20", "arithmetic_20_held_out", "arithmetic_99"])
def test_arithmetic(task, operation, scorer, control_scorer, measure, uses, limit):
    """exact_match: every token of the result is the argmax (what the model says after it is not looked at). The margin against near
    misses of equal length sees progress before that."""
    largest = 99 if task == "arithmetic_99" else 20
    split = "heldout" if task == "arithmetic_20_held_out" else "train"
    available = arithmetic_items(
        scorer.model.tokenizer.encode, None, 1000, operation=operation, largest=largest, split=split
    )
    items = uses(task, [i for i in available if i.foils][: limit(200)], seed=1000)
    ours, twins = continuation_scores(scorer, items), continuation_scores(control_scorer, items)
    where = {"task": task, "operation": operation}
    measure("exact_match", ours.is_top1, items, twins.is_top1, **where)
    measure("margin", ours.difference, items, twins.difference, **where)
    measure("answer_logprob", ours.answer, items, twins.answer, **where)
    assert len({i.prompt for i in items}) == len(items)
