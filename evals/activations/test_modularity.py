"""Do hidden units form modules that fire together, by more than their degrees and their texts make them?

Louvain is the algorithm of the gates; 128 units are drawn at random, so that a case costs seconds. Budget: 12 CPU seconds.
"""

from dataclasses import replace

import pytest
from evals.domain_texts import APPLIES

from trialplate.metrics.communities import adjusted_rand_index
from trialplate.metrics.modularity import Settings, modularity
from trialplate.metrics.planted import planted_patterns

pytestmark = APPLIES

N_UNITS = 128
SETTINGS = Settings(one_per_block=4, n_shifted=2, n_dealt=0)
WHOLE = Settings(one_per_block=4)


EVERYWHERE = [pytest.param(depth, "all", marks=pytest.mark.slow) for depth in ("0%", "25%", "50%", "75%")]


@pytest.mark.parametrize(("depth", "units"), [("25%", "some"), *EVERYWHERE])
def test_modularity(depth, units, study, control_study, at_depth, record, rng):
    """Q beside rewired graphs, and the edges that shifting units within texts takes away, in the model and in its twin."""
    site = f"L{at_depth(depth)}.mlp_act"
    pattern, twin = study.firing(site, "no_first"), control_study.firing(site, "no_first")
    settings, chosen = SETTINGS, rng.permutation(pattern.fires.shape[1])[:N_UNITS]
    if units == "all":
        settings, chosen = WHOLE, range(pattern.fires.shape[1])
    fewer = replace(settings, n_runs=5, n_rewired=5)  # its z needs no digits
    ours, twins = (
        modularity(p.fires[:, chosen], p.document, rng, how, task=p.task)
        for p, how in ((pattern, settings), (twin, fewer))
    )
    common, n = {"depth": depth, "units": units, "algorithm": settings.algorithm}, len(set(pattern.document.tolist()))
    record("n_edges", ours.n_edges, n=n, null=("shifted within texts", ours.shifted.mean_edges), **common)
    # Without edges there is nothing that shifting could take away, and Q has no meaning: gates on what is not recorded are MISSING.
    if ours.n_edges:
        twin_excess = 1 - twins.shifted.mean_edges / max(1, twins.n_edges)
        excess = 1 - ours.shifted.mean_edges / ours.n_edges
        record("edge_excess", excess, n=n, null=("random_weights", twin_excess), **common)
    if ours.q_defined:
        record("q", ours.q_matched, n=n, null=("rewired graphs", ours.rewired.mean), **common)
        record("n_communities", ours.n_communities, n=n, **common)
        record("stability_ari", ours.stability_ari, n=settings.n_runs, **common)
    if ours.q_z is not None:
        null = None if twins.q_z is None else ("random_weights", twins.q_z)  # a twin without a graph has no z
        record("q_z", ours.q_z, n=len(ours.rewired.q), null=null, **common)
    assert ours.n_units <= len(chosen)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_modularity_planted(strength, subject, record, rng):
    """Eight planted modules are found, and independent units have no edges: the same pipeline on patterns whose truth is known."""
    fires, labels = planted_patterns(4000, 128, 8, strength, rng)
    found = modularity(fires, rng.permutation(4000), rng, Settings(n_shifted=0, n_dealt=0))
    if strength:
        record(
            "ari", adjusted_rand_index(found.communities, labels), n=128, strength=strength, null=("by definition", 0.0)
        )
    else:
        record("n_edges", found.n_edges, n=4000, strength=strength, null=("by definition", 0.0))
    assert found.q_defined == bool(strength)
