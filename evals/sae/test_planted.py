"""The oracle of everything about coders: dictionaries that were planted, and how much of them training brings back. Budget: 8 CPU seconds.

The easy set must be recovered by every seed. The hard ones (superposition, features that fire together, children that imply their parent) are measured
and shown. What is recovered does not depend on the model; it is made once a run.
"""

from functools import cache

import pytest
from evals.sae.conftest import as_estimate

pytestmark = pytest.mark.requires_sae(0)

# directions at right angles are easy; uniform ones that fire together, imply each other, or are more than there are channels, are not
SETS = {
    "easy": {"kind": "independent", "n_features": 40, "d": 64, "active": 2.0, "orthogonal": True},
    "correlated": {"kind": "correlated", "n_features": 40, "d": 64, "active": 2.0},
    "hierarchical": {"kind": "hierarchical", "n_features": 40, "d": 64, "active": 2.0},
    "crowded": {"kind": "independent", "n_features": 64, "d": 32, "active": 2.0, "uneven": True},
}
SEEDS = {"easy": (0, 1, 2), "correlated": (0, 1, 2), "hierarchical": (0,), "crowded": (0,)}


@cache
def trained_on(name):
    """(what was planted, [trained by each seed], the random twin of the first)."""
    import numpy as np
    import torch

    from trialplate.sae.config import CoderConfig
    from trialplate.sae.random_twin import random_twin
    from trialplate.sae.settings import TrainingSettings
    from trialplate.sae.source import from_tensor, split
    from trialplate.sae.training import train
    from trialplate.tasks.planted_dictionaries import planted

    settings = dict(SETS[name])
    made = planted(settings.pop("kind"), n_tokens=12_000, rng=np.random.default_rng(7), noise=0.01, **settings)
    rows, held_out = split(from_tensor(torch.from_numpy(made.x), name=f"planted: {name}"), 0.2, 0)
    config = CoderConfig("topk", made.x.shape[1], len(made.features), k=4)
    common = {"steps": 300, "batch_size": 256, "lr": 2e-2, "k_start": 12, "k_anneal": 0.8}
    found = train([(config, TrainingSettings(**common, init_seed=s, data_seed=s)) for s in SEEDS[name]], rows, held_out)
    return made, found, random_twin(found[0].coder, held_out, torch.Generator().manual_seed(10_000))


@pytest.mark.parametrize(
    "planted_set", ["easy", pytest.param("correlated", marks=pytest.mark.slow), "hierarchical", "crowded"]
)
def test_recovery(planted_set, model, record):
    """F1 of the planted directions that training found again, at a cosine of 0.9, by seed; a random dictionary stands beside."""
    from trialplate.metrics.dictionary_recovery import recovery

    made, found, twin = trained_on(planted_set)
    nothing = recovery(made.features, twin.W_dec.detach())
    for seed, one in zip(SEEDS[planted_set], found, strict=True):
        got = recovery(made.features, one.coder.W_dec.detach())
        common = {"planted": planted_set, "seed": seed}
        record("recovery_f1", got.f1, n=len(made.features), null=("random coder", nothing.f1), **common)
        record("recovery_mcc", got.mcc, n=len(made.features), null=("random coder", nothing.mcc), **common)
    assert len({one.name for one in found}) == len(SEEDS[planted_set])


def test_absorption(model, record):
    """How much of a parent is written by the latents of its children, where both were planted; lower is better."""
    from trialplate.sae.absorption import planted_absorption

    made, found, _ = trained_on("hierarchical")
    ours = planted_absorption(found[0].coder, made)
    record("absorption", ours.fraction, planted="hierarchical")
    record("full_absorption", ours.full, planted="hierarchical")
    assert ours.parents


def test_circuit(model, record):
    """A circuit of circles that was planted: its frequencies stand out of its embedding, and coders that never saw it can write its planes."""
    found, frequencies = run_planted_circuit()
    circuit, n = found["embedding"], found["embedding"]["n"]
    record("circuit_share", circuit["share"], n=n, null=("numbers in random order", circuit["null_mean"]))
    record("circuit_overlap", **as_estimate(found["overlap"]), null=("random directions", 0.0))
    record("circuit_recall", **as_estimate(found["recall"]), null=("random coders", found["recall_of_random"]))
    assert circuit["frequencies"] == frequencies


@cache
def run_planted_circuit():
    import numpy as np
    import torch

    from trialplate.sae.config import CoderConfig
    from trialplate.sae.programs.circuit import CircuitOptions, Given, run_circuit
    from trialplate.sae.settings import TrainingSettings
    from trialplate.sae.source import from_tensor, split
    from trialplate.sae.training import train
    from trialplate.tasks.planted_circuit import planted_circuit

    made = planted_circuit(59, 32, 4, 12_000, np.random.default_rng(11))
    rows, held_out = split(from_tensor(torch.from_numpy(made.rows), name="planted circuit"), 0.2, 0)
    config = CoderConfig("topk", 32, 48, k=4)
    plans = [
        (config, TrainingSettings(steps=200, batch_size=256, lr=1e-2, init_seed=s, data_seed=s)) for s in SEEDS["easy"]
    ]
    given = Given({f"seed {one.settings.init_seed}": one.coder for one in train(plans, rows, held_out)})
    found = run_circuit(CircuitOptions(n_frequencies=4), made.embedding, given, held_out)
    return found, made.frequencies.tolist()
