"""Induction (Olsson et al. 2022, arXiv:2209.11895): a block of random tokens comes twice; the second time it can be predicted.

Budget: 6 CPU seconds.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trialplate.metrics import attention, statistics
from trialplate.tasks.probes import induction

SEED = 1000


def draw(task, model, n, length):
    """n sequences: over whole-word tokens, or over every token that is not special."""
    tokenizer = model.tokenizer
    if task == "induction_words":
        return induction.induction_over_words(tokenizer.encode, n, SEED, length=length, prefix_id=model.prefix_id)
    special = {i for i in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) if i is not None}
    size = min(tokenizer.vocab_size, model.vocab_rows)
    return induction.induction_over_vocabulary(
        size, n, SEED, length=length, prefix_id=model.prefix_id, excluded=special
    )


def halves(scorer, sequences):
    """Per sequence: mean accuracy and nll of the first and of the second block."""
    rows = []
    for sequence, scores in zip(sequences, scorer.token_logprobs([s.ids for s in sequences]), strict=True):
        first = np.array(sequence.first_half_targets) - 1  # entry t - 1 belongs to token t
        second = np.array(sequence.second_half_targets) - 1
        rows.append((scores.is_argmax[first].mean(), scores.is_argmax[second].mean(),
                     -scores.logprobs[first].mean(), -scores.logprobs[second].mean()))  # fmt: skip
    return np.array(rows).T


def lengths():
    """(task, length of a block) with what each needs."""
    words = [
        pytest.param("induction_words", n, marks=[needs_window(n), pytest.mark.requires_tokens("single_token_words")])
        for n in (10, 25, 50)
    ]
    return [*words, pytest.param("induction_any", 25, marks=needs_window(25))]


def needs_window(length):
    """Two blocks and the prefix token."""
    return pytest.mark.requires_window(2 * length + 1)


@pytest.mark.parametrize(("task", "length"), lengths())
def test_induction(task, length, scorer, control_scorer, measure, record, limit):
    """Argmax accuracy and negative log-likelihood of both halves; a sequence is one observation, its tokens depend on each other."""
    sequences = draw(task, scorer.model, limit(60), length)
    items = [SimpleNamespace(id=f"{task}/{SEED}/{length}/{i}") for i in range(len(sequences))]
    record.uses(task, digest(sequences), len(sequences), seed=SEED)
    first, second, nll_first, nll_second = halves(scorer, sequences)
    _, twin_second, twin_nll_first, twin_nll_second = halves(control_scorer, sequences)
    where = {"task": task, "length": length}
    measure("accuracy_first", first, items, 1 / scorer.model.vocab_rows, kind="chance", **where)
    measure("accuracy_second", second, items, twin_second, **where)
    measure("nll_first", nll_first, items, twin_nll_first, **where)
    measure("nll_second", nll_second, items, twin_nll_second, **where)
    measure("induction_gain", nll_first - nll_second, items, twin_nll_first - twin_nll_second, **where)
    assert len(sequences) == limit(60)


@needs_window(25)
@pytest.mark.requires_tokens("single_token_words")
@pytest.mark.parametrize("task", ["induction_words"])
def test_prefix_matching(task, model, control, record, limit):
    """Every head: mean attention from a token of the second block to the successor of its first occurrence; the best head is the headline."""
    sequences = draw(task, model, limit(16), 25)
    ids = torch.tensor([s.ids for s in sequences], device=model.device)
    ours, twins = scores(model, ids), scores(control, ids)
    uniform = float(np.mean(attention.uniform_prefix_matching(ids.cpu())))
    for layer, head in np.ndindex(ours.shape[:2]):
        record(
            "prefix_matching",
            statistics.mean(ours[layer, head]),
            null=("uniform attention", uniform),
            layer=layer,
            head=head,
            task=task,
        )
    layer, head = np.unravel_index(ours.mean(-1).argmax(), ours.shape[:2])
    record(
        "prefix_matching",
        statistics.mean(ours[layer, head]),
        null=("random_weights", twins.mean(-1).max()),
        head="best",
        task=task,
    )
    assert ours.shape[:2] == (model.n_layers, model.n_heads)


def scores(model, ids):
    """[n_layers, n_heads, n] prefix-matching scores."""
    layers = [
        attention.prefix_matching_scores(a.float().cpu(), ids.cpu()) for a in model.attentions(ids)
    ]  # [n, n_heads]
    return np.stack(layers).transpose(0, 2, 1)


def digest(sequences):
    """Content of token sequences."""
    import hashlib

    return hashlib.sha256(repr([s.ids for s in sequences]).encode()).hexdigest()
