"""How few hidden units carry a token, and how few tokens a unit, by domain and layer; the random twin stands beside every number.

Low or high is no merit: what is judged is that a known distribution gives its closed form, and that the model is what it was. Budget: 8 CPU seconds.
"""

import math

import pytest
import torch
from evals.activations.conftest import largest
from evals.domain_texts import APPLIES, separators

from trialplate.activations.capture import collect, plan_for
from trialplate.activations.collectors.covariance import Covariance
from trialplate.activations.sites import choose
from trialplate.metrics import dimension, lifetime, sparsity

pytestmark = APPLIES

DOMAINS = ("domain_code", "domain_math", "domain_facts", "domain_prose", "domain_dialogue", "domain_reasoning")
RECORDED = {  # name in the study -> metric and what it is over
    "act_frac@0": ("act_frac", {"above": "0"}),
    "act_frac@rel": ("act_frac", {"above": "1 % of the largest"}),
    "act_frac@sd": ("act_frac", {"above": "0.1 sd"}),
    "zero_frac": ("zero_frac", {}),
    "cett_sparsity": ("cett_sparsity", {}),
    "treves_rolls": ("treves_rolls", {"over": "units"}),
    "hoyer": ("hoyer", {"over": "units"}),
    "gini": ("gini", {"over": "units"}),
    "lifetime_treves_rolls": ("treves_rolls", {"over": "tokens"}),
    "lifetime_hoyer": ("hoyer", {"over": "tokens"}),
    "lifetime_gini": ("gini", {"over": "tokens"}),
    "exkurt": ("exkurt", {}),
    "dead_frac": ("dead_frac", {}),
    "always_on_frac": ("always_on_frac", {}),
}


@pytest.mark.parametrize("depth", ["0%", "25%", "50%", "75%"])
@pytest.mark.parametrize("task", DOMAINS)
def test_sparsity(task, depth, study, control_study, at_depth, record, rng):
    """Every measure of sparsity of one domain at one layer, intervals over texts."""
    site = f"L{at_depth(depth)}.mlp_act"
    ours, twins = (s.sparsity(task, site, "no_first", rng) for s in (study, control_study))
    for name, (metric, more) in RECORDED.items():
        record(metric, ours[name], task=task, depth=depth, null=("random_weights", twins[name]), **more)
    assert set(RECORDED) == set(ours)


@pytest.mark.parametrize("depth", ["0%", "25%", "50%", "75%"])
def test_dimension(depth, model, domains, at_depth, record):
    """In how many directions hidden units vary over tokens of prose, beside white noise of as many units and tokens."""
    task, points = "domain_prose", choose(model, [f"L{at_depth(depth)}.mlp_act"])
    plan, covariance = (
        plan_for(model, {task: domains["measured"][task]}, skip=separators(model)),
        Covariance(skip_first=True),
    )
    collect(model, plan, points, {(task, points[0].name): [covariance]})
    found = covariance.result()
    n, size, common = len(domains["measured"][task]), (len(found.mean), found.n), {"task": task, "depth": depth}
    record(
        "pr_cov", dimension.pr_cov(found.scatter), n=n, null=("white noise", dimension.pr_cov_white(*size)), **common
    )
    record("erank", dimension.erank(found.scatter), n=n, null=("white noise", dimension.erank_white(*size)), **common)
    assert found.n > n


GELU_ABOVE, GELU_TR, GELU_HOYER, GELU_GINI = (
    0.5,
    0.3748,
    0.3886,
    0.589,
)  # integrals of the exact GELU of a standard normal
ANALYTIC = {
    "relu": (torch.relu, (0.5, 1 / math.pi, 1 - 1 / math.sqrt(math.pi), math.sqrt(2) / 2)),
    "abs": (torch.abs, (1.0, 2 / math.pi, 1 - math.sqrt(2 / math.pi), math.sqrt(2) - 1)),
    "gelu": (torch.nn.functional.gelu, (GELU_ABOVE, GELU_TR, GELU_HOYER, GELU_GINI)),
}


@pytest.mark.parametrize("distribution", list(ANALYTIC))
def test_sparsity_analytic(distribution, subject, seed, record):
    """Measures of functions of a standard normal, 200 tokens of 20,000 units, against their closed forms: share above 0, Treves-Rolls, Hoyer,
    Gini; and Treves-Rolls of units over tokens."""
    act, (above, treves_rolls, hoyer, gini) = ANALYTIC[distribution]
    rows = act(torch.randn(200, 20_000, generator=torch.Generator().manual_seed(seed % 2**31)))
    found = sparsity.token_sparsity(rows)
    units = lifetime.lifetime_treves_rolls(
        rows.abs().sum(1).double().numpy(), rows.square().sum(1).double().numpy(), rows.shape[1]
    )
    pairs = [
        (found["act_frac@0"].mean(), above),
        (found["treves_rolls"].mean(), treves_rolls),
        (found["hoyer"].mean(), hoyer),
        (sparsity.token_gini(rows).mean(), gini),
        (units.mean(), treves_rolls),
    ]
    worst = largest(abs(float(got) / wanted - 1) for got, wanted in pairs)
    record("analytic_gap", worst, n=rows.numel(), distribution=distribution)
    assert worst < 0.01
