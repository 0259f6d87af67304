"""A study gives what the plain form gives: one text at a time, hooks by hand, no batches."""

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny

from trialplate.activations.capture import captured
from trialplate.activations.errors import CaptureError
from trialplate.activations.sites import choose, down_projection
from trialplate.activations.study import Wanted, run_study
from trialplate.metrics.cett import cett_sparsity
from trialplate.metrics.sparsity import token_gini

TEXTS = {
    "a": [ids(1, n, seed=n)[0].tolist() for n in range(4, 24)],
    "b": [ids(1, n, seed=100 + n)[0].tolist() for n in range(4, 24)],
}
SITE = "L1.mlp_act"


@pytest.fixture(scope="module")
def model():
    return tiny("gpt_neox")


@pytest.fixture(scope="module")
def study(model):
    wanted = Wanted(("all", "no_first"), n_rows=10_000, covariance=True, bits=True)
    return run_study(model, TEXTS, choose(model, ["*"]), wanted, 0)


@pytest.fixture(scope="module")
def rows(model):
    """{(task, positions): (rows [n, d], number of the text of each)} by the plain form."""
    found = {}
    for task, texts in TEXTS.items():
        values = [captured(model, torch.tensor([text]), choose(model, [SITE]))[SITE][0] for text in texts]
        for positions, begin in (("all", 0), ("no_first", 1)):
            kept = [v[begin:] for v in values]
            found[task, positions] = torch.cat(kept), np.repeat(np.arange(len(kept)), [len(v) for v in kept])
    return found


@pytest.mark.parametrize("positions", ["all", "no_first"])
def test_measures_are_those_of_the_rows(study, rows, model, positions):
    h, _ = rows["a", positions]
    found = study.sparsity("a", SITE, positions, np.random.default_rng(0))
    a = h.abs().double()
    treves_rolls = a.mean(1) ** 2 / (a**2).mean(1)
    wanted = {
        "act_frac@0": (h > 0).double().mean(),
        "act_frac@rel": (a > 0.01 * a.amax(1, keepdim=True)).double().mean(),
        "treves_rolls": treves_rolls.mean(),
        "lifetime_treves_rolls": (a.mean(0) ** 2 / (a**2).mean(0)).mean(),
        "gini": token_gini(h).double().mean(),
        "always_on_frac": ((h > 0).double().mean(0) > 0.99).double().mean(),
        "exkurt": (((h - h.mean(0)).double() ** 4).mean(0) / h.double().var(0, unbiased=False) ** 2 - 3).mean(),
    }
    for name, value in wanted.items():
        assert found[name].value == pytest.approx(float(value), rel=1e-4), name
    assert found["act_frac@sd"].value == pytest.approx(float((a > 0.1 * h.double().std()).double().mean()), abs=5e-3)
    some = np.linspace(0, len(h) - 1, 48).astype(int)
    assert found["cett_sparsity"].value == pytest.approx(
        float(cett_sparsity(h[some], down_projection(model, 1).rows).mean()), abs=1e-3
    )
    assert found["treves_rolls"].n == len(TEXTS["a"])
    assert found["treves_rolls"].ci[0] < found["treves_rolls"].value < found["treves_rolls"].ci[1]


def test_position_zero_can_own_a_layer(rows, study):
    """The two choices of positions differ, so which one is meant is always said."""
    values = [study.sparsity("a", SITE, p, np.random.default_rng(0))["treves_rolls"].value for p in ("all", "no_first")]
    assert values[0] != values[1]


def test_firings_of_all_tasks_by_text(study, rows):
    table = study.firings(SITE, "no_first")
    assert table.tasks == ("a", "b")
    wanted = []
    for task in TEXTS:
        h, text = rows[task, "no_first"]
        wanted += [(h[text == t] > 0).sum(0).numpy() for t in range(len(TEXTS[task]))]
    assert (
        np.abs(table.fires - np.array(wanted)).sum() <= 2
    )  # entries within rounding of 0 may fall either way in another batch
    np.testing.assert_array_equal(table.task, np.repeat([0, 1], 20))
    np.testing.assert_array_equal(table.tokens, [len(t) - 1 for texts in TEXTS.values() for t in texts])


def test_firing_patterns_are_texts_in_reading_order(study, rows):
    pattern = study.firing(SITE, "no_first")
    both = torch.cat([rows[task, "no_first"][0] for task in TEXTS]).numpy() > 0
    assert (pattern.fires != both).sum() <= 2
    np.testing.assert_array_equal(
        pattern.document, np.concatenate([rows["a", "no_first"][1], 20 + rows["b", "no_first"][1]])
    )


def test_dimension_stands_beside_white_noise(study, rows):
    h, _ = rows["b", "all"]
    C = np.cov(h.double().numpy().T)
    found = study.dimension("b", SITE, "all")
    assert found["pr_cov"][0] == pytest.approx(np.trace(C) ** 2 / (C**2).sum(), rel=1e-4)
    assert 1 < found["pr_cov"][0] < found["pr_cov"][1] < 64
    assert 1 < found["erank"][0] < found["erank"][1] < 64


def test_what_was_not_read_is_named(model, study):
    with pytest.raises(CaptureError, match="did not read a at L9"):
        study.sparsity("a", "L9.mlp_act", "all", np.random.default_rng(0))
    small = run_study(model, TEXTS, choose(model, [SITE]), Wanted(), 0)
    with pytest.raises(CaptureError, match="looked at positions no_first, not at all"):
        small.sparsity("a", SITE, "all", np.random.default_rng(0))
    with pytest.raises(CaptureError, match="kept no covariance"):
        small.dimension("a", SITE, "no_first")
    with pytest.raises(CaptureError, match="kept no firing patterns"):
        small.firing(SITE, "no_first")


def test_a_site_that_never_moves_has_no_shape(model):
    quiet = tiny("opt")  # ReLU: units can be exactly zero
    for layer in quiet.module.model.decoder.layers:
        layer.fc1.weight.zero_()
        layer.fc1.bias.fill_(-1)
    found = run_study(quiet, {"a": TEXTS["a"]}, choose(quiet, [SITE]), Wanted(), 0).sparsity(
        "a", SITE, "no_first", np.random.default_rng(0)
    )
    assert found["zero_frac"].value == found["dead_frac"].value == 1
    assert {"treves_rolls", "hoyer", "gini", "lifetime_treves_rolls", "exkurt", "act_frac@sd"}.isdisjoint(found)
