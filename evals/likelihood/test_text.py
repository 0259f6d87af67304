"""Likelihood of fixed text: bits per byte compares across tokenizers, perplexities compare within one only.

Documents are scored whole in disjoint windows, every token once. Budget: 4 CPU seconds.
"""

import pytest

from trialplate.metrics import language
from trialplate.tasks.corpus import heldout_documents
from trialplate.tasks.text_files import read_text_documents


def documents(task, data_dir):
    """Prose that ships with the project, documents of the embedded corpus that training never saw, or WikiText-2 where it is at hand."""
    if task == "corpus_held_out":
        return list(heldout_documents(300, seed=1000))
    return list(read_text_documents(data_dir / "fixed_text.txt"))


@pytest.mark.parametrize("task", ["fixed_text", "corpus_held_out"])
def test_text(task, scorer, control_scorer, record, data_dir, limit):
    """bits_per_byte = nats / (ln 2 * UTF-8 bytes). Nulls: the random twin, and for perplexity a byte and a token a uniform model of the vocabulary."""
    texts = documents(task, data_dir)
    texts = texts[: limit(len(texts))]
    record.uses(task, digest(texts), len(texts))
    scores = scorer.rolling(texts)
    logprobs = [s.logprob for s in scores]
    n_bytes, n_words, n_tokens = ([getattr(s, f) for s in scores] for f in ("n_bytes", "n_words", "n_tokens"))
    twins = [s.logprob for s in control_scorer.rolling(texts)]
    twin = language.bits_per_byte(twins, n_bytes)
    samples = [{"item": f"{task}/{i}", "value": s.logprob, "n_tokens": s.n_tokens} for i, s in enumerate(scores)]
    uniform = language.uniform_bits_per_byte(n_tokens, n_bytes, scorer.model.vocab_rows)
    record(
        "bits_per_byte",
        language.bits_per_byte(logprobs, n_bytes),
        null=("random_weights", twin),
        samples=samples,
        task=task,
    )
    record(
        "word_perplexity",
        language.word_perplexity(logprobs, n_words),
        null=("random_weights", language.word_perplexity(twins, n_words)),
        task=task,
    )
    record("byte_perplexity", language.byte_perplexity(logprobs, n_bytes), null=("uniform", 2**uniform), task=task)
    record(
        "token_perplexity",
        language.token_perplexity(logprobs, n_tokens),
        null=("uniform", scorer.model.vocab_rows),
        task=task,
    )
    assert sum(n_bytes) == sum(len(t.encode()) for t in texts)
    assert n_tokens == [len(scorer.model.tokenizer.encode(t)) + scorer.add_bos for t in texts]


def digest(texts):
    import hashlib

    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
