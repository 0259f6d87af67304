"""Multiple choice and cloze tasks in the public JSONL formats, metric by metric as lm-evaluation-harness names them.

The shipped samples are of the embedded corpus; PIQA, ARC-easy, SciQ and LAMBADA themselves are read from the data folder where they are
(docs/data.md says how to get them). Budget: 6 CPU seconds for the samples.
"""

import pytest

from trialplate.metrics import choices, language, statistics
from trialplate.tasks import formats

READERS = {"piqa": formats.read_piqa, "arc_easy": formats.read_arc, "sciq": formats.read_sciq}


def cases(names):
    """Every task twice: the shipped sample, and the data set itself where it is present."""
    samples = [
        pytest.param(f"{n}_sample", f"samples/{n.removesuffix('_openai')}.jsonl", id=f"{n}_sample") for n in names
    ]
    return samples + [pytest.param(n, f"{n}.jsonl", id=n, marks=pytest.mark.requires_data(f"{n}.jsonl")) for n in names]


@pytest.mark.parametrize(("task", "file"), cases(READERS))
def test_multiple_choice(task, file, scorer, control_scorer, measure, uses_file, against_published, data_dir, limit):
    """acc picks the likeliest choice, acc_norm the likeliest per character; the first of equals, as the harness does."""
    questions = READERS[task.removesuffix("_sample")](data_dir / file)
    questions = questions[: limit(len(questions))]
    uses_file(task, data_dir / file, len(questions))
    ours, twins = answers(scorer, questions), answers(control_scorer, questions)
    chance = choices.chance([len(q.choices) for q in questions])
    gold = [q.gold for q in questions]
    found = {
        "acc": measure(
            "acc", [a.pick == g for a, g in zip(ours, gold, strict=True)], questions, chance, kind="chance", task=task
        )
    }
    found["acc_norm"] = measure("acc_norm", [a.pick_norm == g for a, g in zip(ours, gold, strict=True)], questions,
            [a.pick_norm == g for a, g in zip(twins, gold, strict=True)], task=task)  # fmt: skip
    for metric, value in found.items():
        against_published(metric, value, task, len(questions))
    assert len({q.id for q in questions}) == len(questions)


@pytest.mark.parametrize(("task", "file"), cases(["lambada_openai"]))
def test_cloze(task, file, scorer, control_scorer, record, uses_file, against_published, data_dir, limit):
    """acc: every token of the last word is the argmax; perplexity: exp of the mean negative log-likelihood of the word, however many tokens."""
    items = formats.read_lambada(data_dir / file)
    items = items[: limit(len(items))]
    uses_file(task, data_dir / file, len(items))
    ours, twins = (s.loglikelihood([(i.context, i.target) for i in items]) for s in (scorer, control_scorer))
    samples = [{"item": i.id, "value": s.is_greedy, "logprob": s.logprob, "context": i.context[-120:], "target": i.target}
               for i, s in zip(items, ours, strict=True)]  # fmt: skip
    acc = record("acc", statistics.proportion([s.is_greedy for s in ours]), samples=samples, task=task,
           null=("random_weights", statistics.proportion([s.is_greedy for s in twins])))  # fmt: skip
    perplexity = record("perplexity", language.target_perplexity([s.logprob for s in ours]), task=task,
           null=("random_weights", language.target_perplexity([s.logprob for s in twins])))  # fmt: skip
    against_published("acc", acc, task, len(items))
    against_published("perplexity", perplexity, task, len(items))
    assert all(s.n_tokens >= 1 for s in ours)


def answers(scorer, questions):
    """Every choice scored; the delimiter belongs to the continuation and not to its length."""
    return scorer.multiple_choice([(q.context, q.bare) for q in questions], delimiter=formats.DELIMITER)
