"""A planted circuit: orthonormal planes, rows on their circles, an embedding of few frequencies."""

import numpy as np
import pytest

from trialplate.tasks.planted_circuit import planted_circuit


def test_planted_rows_lie_on_the_circles_of_the_embedding():
    made = planted_circuit(31, 16, 3, 400, np.random.default_rng(2), active=1.0, noise=0.0)
    assert made.planes.reshape(6, 16) @ made.planes.reshape(6, 16).T == pytest.approx(np.eye(6), abs=1e-6)
    parts = np.einsum("nd,fsd->nfs", made.rows, made.planes)
    sizes = np.linalg.norm(parts, axis=2)
    on = sizes > 1e-4
    assert ((sizes[on] > 0.499) & (sizes[on] < 1.501)).all()
    assert on.sum() / 400 == pytest.approx(1.0, abs=0.15)
    assert np.linalg.norm(made.rows, axis=1) ** 2 == pytest.approx((sizes**2).sum(1), abs=1e-4)


@pytest.mark.parametrize("more", [{"n_frequencies": 9}, {"n_rows": 0}, {"active": 0.0}, {"noise": -1.0}])
def test_a_circuit_that_does_not_fit_is_refused(more):
    known = {"n": 31, "d": 16, "n_frequencies": 3, "n_rows": 5}
    with pytest.raises(ValueError, match=r"room for|wanted 0 < active"):
        planted_circuit(**{**known, **more}, rng=np.random.default_rng(0))


def test_an_embedding_is_the_sum_of_its_circles():
    made = planted_circuit(31, 16, 3, 1, np.random.default_rng(4), noise=0.0)
    angle = 2 * np.pi * np.outer(np.arange(31), made.frequencies) / 31
    waves = np.stack([np.cos(angle), np.sin(angle)], 2)
    assert made.embedding == pytest.approx(np.einsum("tfs,fsd->td", waves, made.planes), abs=1e-5)
    assert len(set(made.frequencies.tolist())) == 3
    assert made.frequencies.max() <= 15
