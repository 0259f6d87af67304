"""Correlation of latents that were matched: by hand, in every form of a code, and by index, where it is chance."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from building_blocks.sae_stability_slow import slow_correlation
from scipy import sparse

from trialplate.metrics.latent_correlation import function_correlation, mismatched_correlation
from trialplate.metrics.sparse_codes import columns


def code(n=200, m=8, seed=0, rate=0.3):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 2, (n, m)) * (rng.random((n, m)) < rate)


def entries(dense):
    """A code as a coder gives it: entries token by token, in tensors."""
    table = sparse.csr_array(dense)
    parts = {"starts": table.indptr, "index": table.indices, "value": table.data}
    tensors = {name: torch.tensor(part.astype(float if name == "value" else int)) for name, part in parts.items()}
    return SimpleNamespace(**tensors, d_sae=dense.shape[1])


def test_by_hand():
    # f = 0 0 1 1, g = 0 2 2 4: covariance 3/2 - 1/2 * 2 = 1/2, sd 1/2 and sqrt 2
    f, g = np.array([[0.0], [0], [1], [1]]), np.array([[0.0], [2], [2], [4]])
    found = function_correlation(f, g, [(0, 0)])
    assert found.correlation == pytest.approx([1 / np.sqrt(2)])
    assert found.mean == pytest.approx(1 / np.sqrt(2))


def test_agrees_with_the_slow_form():
    f, g = code(seed=1), code(seed=2)
    pairs = [(i, (3 * i + 1) % 8) for i in range(8)]
    found = function_correlation(f, g, pairs)
    expected = [slow_correlation(f[:, i].tolist(), g[:, j].tolist()) for i, j in pairs]
    assert found.correlation == pytest.approx(expected, abs=1e-12)


def test_all_forms_of_a_code_are_one():
    f, pairs = code(), [(i, i) for i in range(8)]
    whole = function_correlation(f, code(seed=1), pairs).correlation
    for form in (torch.tensor(f), sparse.csr_array(f), sparse.coo_matrix(f), sparse.csc_array(f), entries(f)):
        assert function_correlation(form, entries(code(seed=1)), pairs).correlation == pytest.approx(whole, abs=1e-12)


def test_latents_of_two_seeds_are_in_no_common_order():
    # the same functions in another order: by index they are unrelated, and only the matching shows that they are the same
    f, order = code(n=4000, m=40), np.random.default_rng(5).permutation(40)
    shuffled = 3 * f[:, order]
    by_index = function_correlation(f, shuffled, [(i, i) for i in range(40)])
    matched = function_correlation(f, shuffled, np.column_stack([order, np.arange(40)]))
    assert matched.mean == pytest.approx(1)
    assert abs(by_index.mean) < 0.15


def test_the_null_is_not_zero_where_all_latents_like_the_same_tokens():
    f = code(n=2000, m=30) * (np.arange(2000) % 10 < 3)[:, None]
    null = mismatched_correlation(f, f, [(i, i) for i in range(30)], np.random.default_rng(0))
    independent = mismatched_correlation(
        code(2000, 30), code(2000, 30, 1), [(i, i) for i in range(30)], np.random.default_rng(0)
    )
    assert null.ci[0] > 0.1
    assert null.ci[1] < 0.5  # as they are, all pairs correlate with 1
    assert abs(independent.value) < 0.02
    assert null.n == 20


def test_a_latent_that_never_fires_is_named_and_not_scored():
    f = code()
    f[:, 3] = 0
    f[:, 5] = 1.0  # always the same
    found = function_correlation(f, code(seed=1), [(i, i) for i in range(8)])
    assert found.undefined.tolist() == [[3, 3], [5, 5]]
    assert len(found.correlation) == 6
    assert np.isfinite(found.mean)
    with pytest.raises(ValueError, match="none of 1 pairs has two latents that vary"):
        function_correlation(f, code(seed=1), [(3, 3)])


def test_a_constant_does_not_vary_by_rounding():
    constant = np.tile(np.random.default_rng(0).uniform(0.1, 3, 60), (300, 1))
    with pytest.raises(ValueError, match="none of 60 pairs"):
        function_correlation(constant, constant, [(i, i) for i in range(60)])


def test_stored_zeros_do_not_count_and_the_code_is_not_changed():
    table = sparse.csc_array(code())
    table.data[:5] = 0
    before = table.nnz
    assert columns(table, "a code").nnz == before - 5
    assert table.nnz == before


def test_wide_codes_are_never_made_dense():
    n, m, per_token = 2000, 20_000, 8  # dense: 320 MB
    rng = np.random.default_rng(0)
    index = rng.integers(0, m, n * per_token)
    table = sparse.csr_array((np.ones(index.size), index, np.arange(n + 1) * per_token), shape=(n, m))
    used = np.unique(index)[:500]
    tracemalloc.start()
    found = function_correlation(table, table, np.column_stack([used, used]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.mean == pytest.approx(1)
    assert peak < 20e6


def test_misuse():
    f = code()
    with pytest.raises(ValueError, match="the same tokens, got 200 and 100"):
        function_correlation(f, f[:100], [(0, 0)])
    with pytest.raises(ValueError, match="pair 1 names latent 8 of 8"):
        function_correlation(f, f, [(0, 0), (8, 0)])
    with pytest.raises(ValueError, match=r"\[p, 2\] indices"):
        function_correlation(f, f, np.zeros((0, 2), dtype=int))
    with pytest.raises(ValueError, match="not finite"):
        function_correlation(np.where(f > 1.9, np.nan, f), f, [(0, 0)])
    with pytest.raises(ValueError, match="at least one of each"):
        function_correlation(f[:0], f[:0], [(0, 0)])
    with pytest.raises(ValueError, match="at least 2 pairs"):
        mismatched_correlation(f, f, [(0, 0)], np.random.default_rng(0))
