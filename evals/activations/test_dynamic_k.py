"""What it costs to keep only some hidden units of every token, ranked by what they write; random units of the same number stand beside.

Losses are those of texts that no threshold was calibrated on. Budget: 8 CPU seconds.
"""

import pytest
import torch
from evals.domain_texts import APPLIES

from trialplate.activations.calibration import calibrated
from trialplate.activations.dynamic_k import sparsified
from trialplate.activations.one_percent import topk_ppl1
from trialplate.activations.quality import KEPT, quality, worst_rise
from trialplate.activations.rules import RandomK, TopK

pytestmark = APPLIES

SOME = (0.1, 0.3, 0.5)


@pytest.fixture
def held_out(domains):
    """Texts of all domains that nothing was chosen on."""
    return [row for rows in domains["held_out"].values() for row in rows[:4]]


def test_parity(model, held_out, record):
    """Keeping every unit gives the logits of the plain model."""
    ids = torch.tensor([held_out[0]]).to(model.device)
    with sparsified(model, TopK(1.0)) as sparse:
        kept = model.logits(ids)
    change = float((kept - model.logits(ids)).abs().max())
    record("kept_all_gap", change, n=ids.numel())
    assert sparse.kept_share == 1


@pytest.mark.parametrize("rule", ["topk", "threshold"])
def test_quality(rule, model, held_out, domains, record, seed):
    """Change of perplexity and divergence from the dense model over shares from a tenth to all; at most one rise that noise does not explain."""
    asked = KEPT if rule == "topk" else SOME
    texts = [row for rows in domains["measured"].values() for row in rows[:6]]
    rules = [TopK(k) for k in asked] if rule == "topk" else calibrated(model, texts, asked)
    generator = torch.Generator().manual_seed(seed % 2**31)
    randoms = [RandomK(k, generator) for k in asked]
    found, beside = (quality(model, rows, some) for rows, some in ((held_out, rules), (held_out[::2], randoms)))
    for ours, random in zip(found, beside, strict=True):
        common = {"rule": rule, "kept": ours.asked}
        record("dppl_pct", ours.dppl_pct, null=("random units", random.dppl_pct), **common)
        record("kl_to_dense", ours.kl_to_dense, null=("random units", random.kl_to_dense), **common)
        record("kept_share", ours.kept_share, n=len(held_out), null=("random units", random.kept_share), **common)
    record("worst_rise", worst_rise(found), n=len(held_out), rule=rule, null=("by definition", 0.0))
    assert all(0 < q.kept_share <= 1 for q in found)


@pytest.mark.parametrize("texts", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_one_percent(texts, model, control, held_out, domains, record, rng):
    """The smallest share of units at which perplexity rises by at most one percent, beside that of the random twin."""
    rows = held_out[::4] if texts == "few" else [row for rows in domains["held_out"].values() for row in rows]
    ours, twin = topk_ppl1(model, rows, rng), topk_ppl1(control, rows, rng)
    record("topk_ppl1", ours.value, texts=texts, null=("random_weights", twin.value))
    assert 0 < ours.kept_share <= 1
