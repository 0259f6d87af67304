"""Six domains of texts, read once a model: every case about activations asks the same study.

Position 0 is left out unless a case says otherwise. Layers are named by depth, so that cases are the same for every model: 25% of four layers is L1.
"""

import pytest
from evals.domain_texts import domains, once, separators

__all__ = ["domains"]
N_ROWS = 96
DEPTHS = ("0%", "25%", "50%", "75%")


@pytest.fixture
def study(subject, model, domains):
    """The study of the subject: the hidden units at four depths on all domains."""
    return studied(subject.key, "own", model, domains)


@pytest.fixture
def control_study(subject, control, domains):
    """The same study of the random twin."""
    return studied(subject.key, "twin", control, domains)


def studied(key, whose, model, domains):
    from trialplate.activations.sites import choose
    from trialplate.activations.study import Wanted, run_study

    def make():
        wanted = Wanted(n_rows=N_ROWS, bits=True)
        return run_study(model, domains["measured"], choose(model, DEPTHS), wanted, seed=0, skip=separators(model))

    return once(key, (whose, len(next(iter(domains["measured"].values())))), make)


def largest(values):
    """The largest value, or NaN where there is one: `record` refuses that, which `max` would have hidden."""
    import numpy as np

    return float(np.max(np.asarray(list(values), dtype=np.float64)))


@pytest.fixture
def at_depth(model):
    """at_depth("25%"): the layer."""
    from trialplate.activations.sites import layer_at_depth

    return lambda depth: layer_at_depth(model.n_layers, float(depth.rstrip("%")))


@pytest.fixture
def rows_of(domains):
    """rows_of(n): the first n texts of every domain, one list."""
    return lambda n: [row for rows in domains["measured"].values() for row in rows[:n]]
