"""Pinned scalars: cheap, exact numbers that others publish for the same model and text, so that a wrong shift, prefix or head shows at once.

The numbers are in golden/published.json. Every model is measured; a model with published numbers also gets its distance from them.
Budget: 1 CPU second.
"""

from types import SimpleNamespace

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
def test_first_choices(task, scorer, control_scorer, measure, distance, data_dir):
    """Log-likelihoods of the choices of the first ten ARC-easy questions; the mean is over choices."""
    from trialplate.tasks.formats import read_arc

    questions = read_arc(data_dir / "arc_easy.jsonl")[:10]
    pairs = [(q.context, c) for q in questions for c in q.choices]
    ours, twins = ([s.logprob for s in by.loglikelihood(pairs)] for by in (scorer, control_scorer))
    items = [SimpleNamespace(id=f"{q.id}/{i}") for q in questions for i in range(len(q.choices))]
    groups = [q.id for q in questions for _ in q.choices]
    measure("loglikelihood", ours, items, twins, clusters=groups, task=task)
    distance("choices", ours, task)
    assert len(questions) == 10


@pytest.mark.requires_data("wikitext2_test.txt")
@pytest.mark.parametrize("task", ["wikitext2"])
def test_rolling(task, scorer, control_scorer, measure, distance, data_dir):
    """Rolling log-likelihood of the first ten pages of WikiText-2 raw test, detokenised; the mean is over pages."""
    from trialplate.tasks.wikitext import detokenise, split_pages

    pages = split_pages((data_dir / "wikitext2_test.txt").read_text(encoding="utf-8"))[:10]
    texts = [detokenise(p) for p in pages]
    ours, twins = ([s.logprob for s in by.rolling(texts)] for by in (scorer, control_scorer))
    measure("loglikelihood", ours, [SimpleNamespace(id=f"{task}/{i}") for i in range(len(texts))], twins, task=task)
    distance("rolling", ours, task)
    assert len(pages) == 10
