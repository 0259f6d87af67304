"""A fingerprint of behaviour: logits of fixed ids against those that were recorded when the model was released.

Keys and contents say that the weights are the same; this says that they still mean the same. The ids fill the whole window, so that the
position tables, the recency bias, the borders of write chunks and the mode of writing all take part. Budget: 1 CPU second.
"""

import json

import numpy as np
import pytest
import torch

from trialplate.models.catalog import canonical_name
from trialplate.report.files import write_atomic

pytestmark = [pytest.mark.requires_architecture("asm"), pytest.mark.requires_golden("fingerprints")]
N_ROWS, N_COLUMNS, EVERY = 2, 8, 8


def fingerprint(model, ids):
    """[row, position, column]: centred logits of every eighth position and the last, in columns spread over the vocabulary."""
    logits = model.logits(torch.tensor(ids, device=model.device)).double().cpu()
    logits = logits - logits.mean(-1, keepdim=True)
    columns = torch.linspace(0, model.vocab_rows - 1, N_COLUMNS).long()
    positions = [*range(0, logits.shape[1] - 1, EVERY), logits.shape[1] - 1]
    return logits[:, positions][..., columns].numpy()


def test_fingerprint(subject, model, control, record, golden_file, golden_update, rng):
    """Largest distance of a logit from the recorded one; null: the random twin's."""
    path = golden_file("fingerprints")
    if golden_update:
        n_ids = min(model.vocab_rows, model.tokenizer.vocab_size)
        ids = rng.integers(0, n_ids, (N_ROWS, min(model.max_length, 512))).tolist()
        content = {"models": [canonical_name(subject.name)], "weights": model.weights_digest, "ids": ids,
                   "logits": np.round(fingerprint(model, ids), 5).tolist()}  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(content).replace("], [", "],\n [").encode() + b"\n")
    golden = json.loads(path.read_text(encoding="utf-8"))
    logits = np.array(golden["logits"])
    gap, twin = (np.abs(fingerprint(m, golden["ids"]) - logits).max() for m in (model, control))
    record("fingerprint_gap", gap, n=logits.size, null=("random_weights", twin))
    assert logits.shape == (N_ROWS, *logits.shape[1:-1], N_COLUMNS)
