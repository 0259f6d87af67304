"""One coder, measured: a random one beside it, undefined scores said in words, probes only with their control."""

from functools import cache

import numpy as np
import pytest
import torch

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.preservation import Preserved
from trialplate.sae.programs.quality import EvalOptions, Texts, _preserved, eval_summary, run_eval
from trialplate.sae.source import from_tensor
from trialplate.tasks.labelled_texts import labelled_texts
from trialplate.tasks.planted_dictionaries import planted


@cache
def truth():
    return planted("independent", 8, 16, 400, 1.5, np.random.default_rng(0), orthogonal=True)


def perfect():
    """The coder that planted rows were made with: relu of the projections on orthogonal features."""
    coder = Coder(CoderConfig("relu", d_in=16, d_sae=8)).eval().requires_grad_(False)
    coder.W_dec.copy_(torch.from_numpy(truth().features))
    coder.encoder.copy_(coder.W_dec)
    coder.b_enc.fill_(-1e-4)  # rounding of what is not there must not fire
    return coder


def rows():
    return from_tensor(torch.from_numpy(truth().x), name="planted")


def test_a_perfect_coder_explains_everything_and_a_random_one_does_not():
    result = run_eval(EvalOptions(), perfect(), rows())
    core, random = result["core"], result["random"]
    assert core["estimates"]["ev"]["value"] == pytest.approx(1, abs=1e-3)
    assert core["estimates"]["l0"]["value"] == pytest.approx((truth().codes > 0).sum() / 400)
    assert random["estimates"]["ev"]["value"] < 0.5
    assert random["estimates"]["l0"]["value"] == pytest.approx(core["estimates"]["l0"]["value"], abs=0.01)
    density = core["density"]
    assert len(density["log10_edges"]) == len(density["latents"]) + 1
    assert sum(density["latents"]) + density["dead"] == 8
    assert (result["preservation"], result["probing"], result["cebench"]) == (None, {}, None)
    assert "| ev |" in eval_summary(result)


def test_the_same_seed_gives_the_same_control():
    one, same, other = (run_eval(EvalOptions(seed=seed), perfect(), rows())["subject"]["random"] for seed in (1, 1, 2))
    assert one == same != other


def test_probes_are_not_read_without_a_random_coder():
    texts = Texts((labelled_texts("register", train=4, valid=4, test=4),))
    with pytest.raises(ValueError, match="beside a random coder"):
        run_eval(EvalOptions(random_control=False), perfect(), rows(), None, texts)


def test_a_score_without_a_value_is_said_in_words_and_the_losses_stay():
    """Zeros at the site lower the loss of this model: there is no loss that could be recovered."""
    nats = np.array([[30.0, 31.0, 20.0], [40.0, 41.0, 30.0]])
    found = _preserved(Preserved(nats, np.abs(nats - nats[:, :1]), np.array([10.0, 10.0])))
    assert "ce_loss_score" not in found
    assert "no loss to recover" in found["undefined"]["ce_loss_score"]
    assert found["ce_clean"].value == pytest.approx(3.5)
    assert found["kl_score"].value == pytest.approx(1 - 2 / 20)
