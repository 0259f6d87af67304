"""The pool: one load per model however cases are ordered, a byte budget, twins, and failures that are not tried again."""

import random

import pytest

from trialplate.models.errors import ModelNotFound
from trialplate.models.load import load
from trialplate.models.pool import ModelPool, model_bytes
from trialplate.models.spec import ModelSpec

SPECS = [
    ModelSpec("embedded:neox-tiny"),
    ModelSpec("embedded:neox-random"),
    ModelSpec("embedded:neox-tiny", dtype="float16"),
]


def test_loads_equal_the_number_of_models_in_any_order():
    pool = ModelPool(load)
    requests = SPECS * 4
    random.Random(0).shuffle(requests)
    for spec in requests:
        assert pool.lease(spec).spec == spec
    assert (pool.stats.loads, pool.stats.hits, pool.stats.evictions) == (3, 9, 0)
    assert pool.stats.load_seconds.keys() == {spec.key for spec in SPECS}
    assert all(seconds > 0 for seconds in pool.stats.load_seconds.values())


def test_twins_are_kept_by_seed():
    pool = ModelPool(load)
    first = pool.twin(SPECS[0], 1)
    assert pool.twin(SPECS[0], 1) is first
    assert pool.twin(SPECS[0], 2) is not first
    assert (pool.stats.loads, pool.stats.twins) == (1, 2)


def test_byte_budget_evicts_the_least_recently_used():
    size = model_bytes(load(SPECS[0]))
    pool = ModelPool(load, byte_budget=2 * size)
    a, b, half = SPECS
    pool.lease(a), pool.lease(b), pool.lease(a)
    pool.lease(half)  # half the bytes: b has to go
    assert pool.n_bytes <= 2 * size
    assert pool.stats.evictions == 1
    pool.lease(a)
    assert pool.stats.loads == 3
    pool.lease(b)
    assert pool.stats.loads == 4


def test_a_model_larger_than_the_budget_is_held_alone():
    pool = ModelPool(load, byte_budget=1)
    pool.lease(SPECS[0])
    assert pool.lease(SPECS[0]) is not None
    pool.lease(SPECS[1])
    assert (pool.stats.loads, pool.stats.hits, pool.stats.evictions) == (2, 1, 1)
    with pytest.raises(ValueError, match="must be positive"):
        ModelPool(load, byte_budget=0)


def test_a_failure_is_remembered_until_cleared():
    attempts = []

    def loader(spec):
        attempts.append(spec)
        raise ModelNotFound(f"no {spec.name}")

    pool = ModelPool(loader)
    for _ in range(3):
        with pytest.raises(ModelNotFound, match="no embedded:neox-tiny"):
            pool.lease(SPECS[0])
    assert len(attempts) == 1
    assert pool.stats.loads == 0
    pool.clear()
    with pytest.raises(ModelNotFound):
        pool.twin(SPECS[0], 1)
    assert len(attempts) == 2


def test_tied_parameters_count_once(make_folder):
    model = load(ModelSpec(str(make_folder("gpt2"))))
    assert model_bytes(model) == 4 * model.n_parameters + sum(
        b.numel() * b.element_size() for b in model.module.buffers()
    )
