"""Counts of joint firings: exact, symmetric, and the same by every method."""

import subprocess
import sys

import numpy as np
import pytest
from building_blocks.coactivation_slow import slow_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.coactivation import METHODS, count_coactivation, pack


def random_pattern(n_tokens, n_units, rate=0.3, seed=0):
    return np.random.default_rng(seed).random((n_tokens, n_units)) < rate


def test_counts_by_hand():
    fires = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)
    found = count_coactivation(fires)
    assert found.counts.tolist() == [[3, 2, 0], [2, 2, 0], [0, 0, 0]]
    assert found.firings.tolist() == [3, 2, 0]
    assert (found.n_tokens, found.method, found.counts.dtype) == (3, "numpy", np.int64)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 150), st.floats(0, 1), st.integers(0, 2**31))
def test_methods_agree_with_the_slow_form(n_units, n_tokens, rate, seed):
    fires = random_pattern(n_tokens, n_units, rate, seed)
    wanted = slow_counts(fires.tolist())
    for method in METHODS:
        assert count_coactivation(fires, method).counts.tolist() == wanted, method


@pytest.mark.parametrize("shape", [(1, 1), (63, 2), (64, 33), (65, 65), (4097, 31), (9000, 130)])
def test_methods_agree_across_edges_of_words_and_tiles(shape):
    fires = random_pattern(*shape)
    matrix = fires.astype(np.float64)
    for method in METHODS:
        found = count_coactivation(fires, method)
        assert (found.counts == matrix.T @ matrix).all(), method
        assert found.method == method


@pytest.mark.parametrize("method", METHODS)
def test_views_and_columns_first_count_the_same(method):
    fires = random_pattern(300, 20)
    wanted = count_coactivation(fires[::2, ::3].copy(), method).counts
    assert (count_coactivation(fires[::2, ::3], method).counts == wanted).all()
    assert (count_coactivation(np.asfortranarray(fires[::2, ::3]), method).counts == wanted).all()


@pytest.mark.parametrize("method", METHODS)
def test_streams_add_up(method):
    fires = random_pattern(1000, 17)
    whole = count_coactivation(fires, method)
    parts = count_coactivation(fires[:333], method) + count_coactivation(fires[333:], method)
    assert (parts.counts == whole.counts).all()
    assert (parts.n_tokens, parts.method) == (1000, method)


def test_streams_counted_differently_say_so():
    fires = random_pattern(70, 3)
    assert (count_coactivation(fires, "gemm") + count_coactivation(fires, "numpy")).method == "gemm + numpy"
    with pytest.raises(ValueError, match="of one site"):
        count_coactivation(fires) + count_coactivation(fires[:, :2])


def test_packing_keeps_every_firing_and_adds_none():
    fires = random_pattern(2100, 5)  # more than one block, and no multiple of 64
    packed = pack(fires)
    assert (packed.shape, packed.dtype) == ((5, 33), np.uint64)
    bits = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little")
    assert (bits[:, :2100].T.astype(bool) == fires).all()
    assert not bits[:, 2100:].any()


def test_a_product_beyond_what_float32_counts_is_refused():
    fires = random_pattern(10, 2)
    with pytest.raises(ValueError, match="float32 does not hold every whole number"):
        count_coactivation(fires, "gemm", flush=2**24 + 1)
    assert (count_coactivation(fires, "gemm", flush=3).counts == count_coactivation(fires).counts).all()


@pytest.mark.parametrize(
    "bad", [np.ones((3, 2)), np.ones(3, dtype=bool), np.ones((0, 2), dtype=bool), np.ones((3, 0), dtype=bool), [[True]]]
)
def test_what_is_no_pattern_is_refused(bad):
    with pytest.raises(ValueError, match="pass h > threshold"):
        count_coactivation(bad)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="popcount, numpy, gemm; got 'int8'"):
        count_coactivation(random_pattern(3, 2), "int8")


def test_popcount_without_numba_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "trialplate.metrics.popcount", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'trialplate\[numba\]'"):
        count_coactivation(random_pattern(3, 2), "popcount")


def test_extras_are_imported_only_where_they_are_asked_for():
    script = (
        "import sys, numpy as np, trialplate.metrics.modularity as m; "
        "from trialplate.metrics.coactivation import count_coactivation; count_coactivation(np.ones((9, 2), dtype=bool)); "
        "print([name for name in ('numba', 'igraph', 'leidenalg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
