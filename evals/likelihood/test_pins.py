"""Pinned scalars: cheap, exact numbers that others publish for the same model and text, so that a wrong shift, prefix or head shows at once.

The numbers are in golden/published.json. Every model is measured; a model with published numbers also gets its distance from them.
Budget: 1 CPU second.
"""

import numpy as np
import pytest

from trialplate.metrics import statistics
from trialplate.tasks.published import load_published


@pytest.fixture
def distance(record, subject, golden_dir):
    """distance(kind, values, task): record how far the values are from the published ones, where there are any."""

    def measured(kind, values, task):
        published = load_published(golden_dir / "published.json").pins_of(
            subject.label.removeprefix("EleutherAI/"), kind
        )
        for pin in published:
            wanted = pin.values[: len(values)]
            gap = max(abs(a - b) for a, b in zip(values, wanted, strict=True))
            record("pin_gap", gap, n=len(wanted), null=("stated tolerance", pin.tolerance), task=task)

    return measured


@pytest.mark.parametrize("task", ["hello_world"])
def test_loss(task, scorer, control_scorer, record, distance):
    """Mean next-token loss of "Hello world!" with the prefix token before it."""
    ours, twins = nats(scorer, "Hello world!"), nats(control_scorer, "Hello world!")
    samples = [{"item": f"token {i}", "value": v} for i, v in enumerate(ours)]
    record("loss", statistics.mean(ours), null=("random_weights", statistics.mean(twins)), samples=samples, task=task)
    distance("loss", [ours.mean()], task)
    assert len(ours) == len(scorer.model.tokenizer.encode("Hello world!"))


def nats(scorer, text):
    """Nats of every token after the prefix token."""
    return -scorer.token_logprobs([[scorer.model.prefix_id, *scorer.model.tokenizer.encode(text)]])[0].logprobs


@pytest.mark.requires_data("arc_easy.jsonl")
@pytest.mark.parametrize("task", ["arc_easy"])
def test_first_choices(task, scorer, record, distance, data_dir):
    """Log-likelihoods of the four choices of the first ten ARC-easy questions."""
    from trialplate.tasks.formats import read_arc

    questions = read_arc(data_dir / "arc_easy.jsonl")[:10]
    scores = scorer.loglikelihood([(q.context, c) for q in questions for c in q.choices])
    record("loglikelihood", np.mean([s.logprob for s in scores]), n=len(scores), task=task)
    distance("choices", [s.logprob for s in scores], task)
    assert len(questions) == 10


@pytest.mark.requires_data("wikitext2_test.txt")
@pytest.mark.parametrize("task", ["wikitext2"])
def test_rolling(task, scorer, record, distance, data_dir):
    """Rolling log-likelihood of the first ten pages of WikiText-2 raw test, detokenised."""
    from trialplate.tasks.wikitext import detokenise, split_pages

    pages = split_pages((data_dir / "wikitext2_test.txt").read_text(encoding="utf-8"))[:10]
    scores = scorer.rolling([detokenise(p) for p in pages])
    record("loglikelihood", np.mean([s.logprob for s in scores]), n=len(scores), task=task)
    distance("rolling", [s.logprob for s in scores], task)
    assert len(pages) == 10
