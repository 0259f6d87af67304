"""Planted dictionaries are what they say: rates, kinds, truth; one generator makes them."""

import numpy as np
import pytest

from trialplate.tasks.planted_dictionaries import KINDS, planted


def make(kind="independent", n_features=24, d=16, n_tokens=20_000, active=3.0, seed=0, noise=0.0, **options):
    return planted(kind, n_features, d, n_tokens, active, np.random.default_rng(seed), noise, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_codes_times_features_and_noise(kind):
    made, noisy = make(kind, n_tokens=500), make(kind, n_tokens=4000, noise=0.2)
    assert made.x == pytest.approx(made.codes @ made.features, abs=1e-6)
    assert (noisy.x - noisy.codes @ noisy.features).std() == pytest.approx(0.2, rel=0.03)
    assert {array.dtype for array in (made.x, made.features, made.codes)} == {np.dtype(np.float32)}
    assert np.linalg.norm(made.features, axis=1) == pytest.approx(np.ones(24), abs=1e-6)
    assert made.codes.min() == 0


@pytest.mark.parametrize("skew", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_active_at_their_rates_and_so_many_a_token(kind, skew):
    made = make(kind, skew=skew)
    fires = made.codes > 0
    stderr = np.sqrt(made.rates * (1 - made.rates) / len(fires))
    assert made.rates.sum() == pytest.approx(3)
    assert np.abs(fires.mean(axis=0) - made.rates).max() < 4.5 * stderr.max()
    if kind == "independent":
        assert made.rates.max() / made.rates.min() == pytest.approx(24**skew)
    if skew:
        assert not (np.diff(made.rates) <= 0).all()  # the first feature is not the most frequent one


def correlations(made):
    """Of firing: mean over pairs of one group, and over pairs of two."""
    r = np.corrcoef((made.codes > 0).T)
    same = made.groups[:, None] == made.groups
    np.fill_diagonal(same, False)
    return (r[same].mean() if same.any() else 0.0), r[~same & ~np.eye(len(r), dtype=bool)].mean()


def test_independent_features_do_not_know_of_each_other():
    made = make()
    assert (made.parents == -1).all()
    assert len(np.unique(made.groups)) == 24
    assert abs(correlations(made)[1]) < 0.005


def test_correlated_features_fire_together_within_their_group():
    weak, strong = (correlations(make("correlated", together=share)) for share in (0.3, 0.9))
    assert strong[0] > weak[0] + 0.2 > 0.25
    assert abs(strong[1]) < 0.005
    assert (
        make("correlated", n_features=10, group=4, n_tokens=10, active=1).groups.tolist() == [0] * 4 + [1] * 4 + [2] * 2
    )


def test_a_child_implies_its_parent_and_parents_seldom_fire_alone():
    made = make("hierarchical", together=0.8)
    fires = made.codes > 0
    parents, children = np.flatnonzero(made.parents < 0), np.flatnonzero(made.parents >= 0)
    assert (len(parents), len(children)) == (6, 18)
    for child in children:
        assert not (fires[:, child] & ~fires[:, made.parents[child]]).any()
    for parent in parents:
        own = fires[:, made.parents == parent].sum(axis=1)
        assert own.max() == 1  # one child at a time
        assert own[fires[:, parent]].mean() == pytest.approx(0.8, abs=0.03)


def test_a_parent_without_children_is_no_fault():
    made = make("hierarchical", n_features=5, group=4, n_tokens=5000, active=1)
    assert made.parents.tolist() == [-1, 0, 0, 0, -1]
    assert (made.codes > 0).sum(axis=1).mean() == pytest.approx(1, abs=0.06)


def test_sizes_of_features():
    made, uneven = make(), make(uneven=True)
    sizes, scales = made.codes[made.codes > 0], np.array([c[c > 0].mean() for c in uneven.codes.T])
    assert (sizes.min(), sizes.max()) == pytest.approx((0.5, 1.5), abs=0.01)
    assert 0.5 < scales.min() < 0.8 < 1.3 < scales.max() < 2.1


def test_more_features_than_channels_and_right_angles():
    assert make(n_features=24, d=4, n_tokens=5).features.shape == (24, 4)
    square = make(n_features=16, d=16, orthogonal=True, n_tokens=5).features
    assert square @ square.T == pytest.approx(np.eye(16), abs=1e-6)
    with pytest.raises(ValueError, match="24 directions at right angles do not fit into 16"):
        make(orthogonal=True)


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_makes_one_set(kind):
    one, two, other = (make(kind, n_tokens=50, noise=0.1, seed=seed, uneven=True) for seed in (1, 1, 2))
    assert np.array_equal(one.x, two.x)
    assert not np.array_equal(one.x, other.x)


def test_no_global_generator_is_used():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    make("hierarchical", n_tokens=50, noise=0.1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "nested"}, "one of independent, correlated, hierarchical"),
        ({"n_tokens": 0}, "at least 1 each"),
        ({"group": 0}, "at least 1 each"),
        ({"active": 0}, "active > 0"),
        ({"active": float("nan")}, "active > 0"),
        ({"noise": -1}, "noise >= 0"),
        ({"noise": float("nan")}, "noise >= 0"),
        ({"active": 20}, "above 50%"),
        ({"skew": 5}, "above 50%"),
        ({"kind": "correlated", "together": 1.0}, "a group would be one feature"),
        ({"kind": "hierarchical", "together": 0.0}, "no child would fire"),
    ],
)
def test_what_cannot_be_planted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
