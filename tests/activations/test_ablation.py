"""Units held at their mean: what the hook does, and that the check tells units that matter from those that do not."""

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny

from trialplate.activations.ablation import Ablated, ablation
from trialplate.activations.capture import captured
from trialplate.activations.sites import choose
from trialplate.activations.study import Wanted, run_study
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec
from trialplate.tasks.domains import domain_texts


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "asm"])
def test_only_the_chosen_units_are_held(family):
    model, units = tiny(family), np.array([3, 7])
    before = model.logits(ids())
    with Ablated(model, 1, units, np.array([0.5, -2.0])).running():
        held = captured(model, ids(), choose(model, ["L1.mlp_act", "L1.mlp_out"]))
        assert not torch.equal(model.logits(ids()), before)
    plain = captured(model, ids(), choose(model, ["L1.mlp_act", "L1.mlp_out"]))
    assert not torch.equal(held["L1.mlp_out"], plain["L1.mlp_out"])
    assert torch.equal(model.logits(ids()), before)


def test_holding_units_at_their_values_changes_nothing():
    model = tiny("gpt2")
    one = ids(1, 2)[:, :1]  # one token: its own activation is the mean
    values = captured(model, one, choose(model, ["L1.mlp_act"]))["L1.mlp_act"][0, 0]
    with Ablated(model, 1, np.arange(len(values)), values.numpy().astype(float)).running():
        torch.testing.assert_close(model.logits(one), model.logits(one), rtol=0, atol=0)
        held = model.logits(one)
    torch.testing.assert_close(held, model.logits(one), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained():
    return load(ModelSpec("embedded:neox-tiny"))


def rows(model, name, start, stop):
    return [model.tokenizer.encode(" ".join(text)) for text in domain_texts(name, stop, 0)[start:stop]]


def test_units_are_chosen_on_other_texts_and_losses_add_up(trained):
    names = ("domain_math", "domain_reasoning")
    texts = {n: rows(trained, n, 0, 12) for n in names}
    study = run_study(trained, texts, choose(trained, ["L2.mlp_act"]), Wanted(), 0)
    held_out = {n: rows(trained, n, 12, 15) for n in names}
    found = ablation(study, 2, "domain_math", held_out, np.random.default_rng(0), n_sets=10)
    assert len(found.units) == 5  # one percent of 512
    assert np.abs(found.rates - found.matched_rates).max() < 0.2
    own = found.loss["domain_math"] / found.base["domain_math"] - 1
    other = found.loss["domain_reasoning"] / found.base["domain_reasoning"] - 1
    assert found.effect == pytest.approx(own - other, rel=1e-6)
    assert found.other == pytest.approx(other, rel=1e-6)
    assert found.against.n == 10


def test_an_ablation_that_changes_nothing_is_an_error(trained, monkeypatch):
    from contextlib import nullcontext

    names = ("domain_math", "domain_reasoning")
    study = run_study(trained, {n: rows(trained, n, 0, 6) for n in names}, choose(trained, ["L2.mlp_act"]), Wanted(), 0)
    monkeypatch.setattr(Ablated, "running", lambda self, counted=None: nullcontext())
    with pytest.raises(ValueError, match="do the ablations reach the model"):
        ablation(
            study, 2, "domain_math", {n: rows(trained, n, 6, 8) for n in names}, np.random.default_rng(0), n_sets=3
        )
