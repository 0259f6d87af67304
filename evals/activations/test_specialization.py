"""Do units fire by domain, by more than texts dealt to domains at random would show; and does it matter to the loss?

Two nulls: texts whose domains are permuted (must show nothing, in any model), and the random twin, whose units answer to the tokens of a domain
and to nothing else. Selective units are found even there, so a share of them is no finding without the twin's. Budget: 20 CPU seconds.
"""

import numpy as np
import pytest
from evals.domain_texts import APPLIES

from trialplate.activations.ablation import ablation
from trialplate.metrics.selectivity import selectivity
from trialplate.metrics.specialization import specialization

pytestmark = APPLIES

PERMUTED = "permuted texts"


@pytest.mark.parametrize("depth", ["0%", "25%", "50%", "75%"])
def test_specialization(depth, study, control_study, at_depth, record, rng):
    """SI and its excess over permuted texts, mutual information, and the share of units that pass a test at a false discovery rate of 5 %."""
    site = f"L{at_depth(depth)}.mlp_act"
    table, twin = (s.firings(site, "no_first") for s in (study, control_study))
    found, twins = (specialization(t.fires, t.tokens, t.task, rng) for t in (table, twin))
    tested, twin_tested = (selectivity(t.fires, t.tokens, t.task, rng) for t in (table, twin))
    common = {"depth": depth, "of": "domains"}
    record("si_mean", found.si_mean, null=(PERMUTED, found.si_null), **common)
    record("si_excess", found.si_excess, null=("random_weights", twins.si_excess), **common)
    record("si_coverage", found.si_coverage, n=found.si_mean.n, null=("random_weights", twins.si_coverage), **common)
    record("mi_bits", tested.mi_bits, null=(PERMUTED, tested.mi_null), **common)
    record("frac_selective", tested.frac_selective, null=(PERMUTED, tested.frac_selective_null), **common)
    record("frac_selective", twin_tested.frac_selective, null=(PERMUTED, twin_tested.frac_selective_null),
           **{**common, "of": "domains, random twin"})  # fmt: skip
    assert 0 < found.si_coverage <= 1


@pytest.mark.parametrize("depth", ["25%"])
def test_dealt_domains(depth, study, at_depth, record, rng):
    """The same test with the domains of texts dealt anew, ten times: the mean of what must show nothing. A false discovery may come, seldom and
    then for many units at once, because texts move many units together; that is what ten deals are for."""
    table = study.firings(f"L{at_depth(depth)}.mlp_act", "no_first")
    deals = [rng.permutation(table.task) for _ in range(10)]
    shares = [selectivity(table.fires, table.tokens, t, rng, permutations=50).frac_selective.value for t in deals]
    excess = specialization(table.fires, table.tokens, deals[0], rng).si_excess
    record(
        "frac_selective",
        float(np.mean(shares)),
        n=len(deals),
        depth=depth,
        of="dealt domains",
        null=("by definition", 0.0),
    )
    record("si_excess", excess, depth=depth, of="dealt domains", null=("by definition", 0.0))
    assert not any((deal == table.task).all() for deal in deals)


DOMAINS = ("domain_code", "domain_math", "domain_facts", "domain_prose", "domain_dialogue", "domain_reasoning")
DEFAULT = ("domain_math", "50%", "few")
EVERYWHERE = [
    pytest.param(task, depth, "all", marks=pytest.mark.slow)
    for task in DOMAINS
    for depth in ("0%", "25%", "50%", "75%")
]


@pytest.mark.parametrize(("task", "depth", "texts"), [DEFAULT, *EVERYWHERE])
def test_specialization_causal(task, depth, texts, study, domains, at_depth, record, rng):
    """The top 1 % of units for a domain held at their mean, against twenty random sets of the same firing rates. Losses are those of texts
    that had no part in choosing the units."""
    held_out = {name: rows[: 3 if texts == "few" else None] for name, rows in domains["held_out"].items()}
    found = ablation(study, at_depth(depth), task, held_out, rng)
    common = {"depth": depth, "task": task, "texts": texts}
    record("dloss_own", found.own, null=("the other domains", found.other), **common)
    record("z_vs_random", found.against.z, n=found.against.n, null=("by definition", 0.0), **common)
    assert abs(found.rates - found.matched_rates).max() < 0.25
