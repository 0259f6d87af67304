"""Gradients from the few active latents are those of the dense step: of autograd, and of the slow twin, which sorts lists and knows no sparsity.

Float32 is compared to 1e-6 of the largest gradient of each parameter, float64 to 1e-12. Rows go by eight at a time here, so that pieces matter."""

import math
import sys
from unittest.mock import patch

import pytest
import torch
from building_blocks import sae_step_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from trialplate.sae import autograd_step, selections, sparse_step
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError
from trialplate.sae.losses import Terms
from trialplate.sae.optimiser import project_gradients, renormalise
from trialplate.sae.selections import BatchSelection
from trialplate.sae.sparse_products import KERNELS, by_latent, products, summed
from trialplate.sae.sparse_step import SparseStep, choose_kernels

N, D, M = 27, 12, 96
SHAPES = {
    "topk": CoderConfig("topk", D, M, k=5),
    "signed": CoderConfig("topk", D, M, k=60, signed=True),
    "batchtopk": CoderConfig("batchtopk", D, M, k=5),
    "uncentred": CoderConfig("topk", D, M, k=5, centre_input=False),
    "transcoder": CoderConfig("batchtopk", D, M, 7, k=5, centre_input=False),
    "skip": CoderConfig("topk", D, M, 7, k=5, centre_input=False, skip=True),
    "centred skip": CoderConfig("topk", D, M, k=5, skip=True),
    "prefixes": CoderConfig("topk", D, M, k=5, prefixes=(16, 40)),
    "batch prefixes": CoderConfig("batchtopk", D, M, k=5, prefixes=(16, 40)),
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(sparse_step, "PIECE", 8)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def coder_of(config, seed=0):
    """Nothing in it is zero, so every part of every gradient is there."""
    coder = initialise(Coder(config), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for number, parameter in enumerate(coder.parameters()):
            parameter.add_(0.1 * normal(*parameter.shape, seed=seed + number + 1))
    return coder


def batch_of(config, n=N, seed=50):
    x = normal(n, config.d_in, seed=seed)
    return x, (normal(n, config.d_out, seed=seed + 1) if config.is_transcoder else x)


def terms_of(config, seed=90):
    """Everything that is asked at once; a third of the latents are dead."""
    dead = torch.rand(config.d_sae, generator=torch.Generator().manual_seed(seed)) < 1 / 3
    return Terms(aux=0.5, aux_k=6, dead=dead, prefix_weight=0.7 if config.prefixes else 0.0, multi=0.25)


def gradients_of(coder):
    return {name: parameter.grad.clone() for name, parameter in coder.named_parameters()}


def slow_step(coder, x, y, terms):
    c = coder.config
    asked = {"prefix": terms.prefix_weight, "multi": terms.multi, "aux": terms.aux, "aux_k": terms.aux_k}
    asked["dead"] = [False] * c.d_sae if terms.dead is None else terms.dead.tolist()
    kind = {"batch": c.architecture == "batchtopk", "signed": c.signed, "centre": c.centre_input}
    weights = dict(coder.named_parameters())
    return slow.slow_step(weights, x, y, k=terms.k or c.k, prefixes=c.prefixes, terms=asked, **kind)


def assert_same_gradients(found, wanted, share):
    for name, gradient in wanted.items():
        off = (found[name].double() - gradient.double()).abs().max()
        assert off <= share * gradient.abs().max(), f"{name}: off by {off:.2g} of {gradient.abs().max():.2g}"


# --- the same as dense steps ------------------------------------------------------------------------------------------


def test_a_step_by_hand():
    # x = y = (3, 0) in one token; pre = (3, 0), latent 0 stays with f = 3; y' = 3 (0.5, 0) = (1.5, 0); loss (1.5 - 3)^2 = 2.25
    # p = 2 (y' - y) = (-3, 0); dW_dec = f p; s = <p, d_0> = -1.5; d encoder = s x, d b_enc = s; d b_dec = p - s (1, 0) = (-1.5, 0)
    coder = Coder(CoderConfig("topk", 2, 2, k=1))
    with torch.no_grad():
        coder.encoder.copy_(torch.eye(2))
        coder.W_dec.copy_(torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[3.0, 0.0]])
    outcome = SparseStep(coder, 1).gradients(x, x, Terms())
    assert (float(outcome.loss), outcome.y_hat.tolist(), outcome.latents.dense().tolist()) == (
        2.25,
        [[1.5, 0]],
        [[3, 0]],
    )
    wanted = {"W_dec": [[-9, 0], [0, 0]], "encoder": [[-4.5, 0], [0, 0]], "b_enc": [-1.5, 0], "b_dec": [-1.5, 0]}
    assert {name: gradient.tolist() for name, gradient in gradients_of(coder).items()} == wanted


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", SHAPES)
def test_everything_that_can_be_asked_equals_autograd_and_the_slow_step(name, kernels):
    coder, (x, y) = coder_of(SHAPES[name]), batch_of(SHAPES[name])
    terms = terms_of(SHAPES[name])
    wanted = autograd_step.gradients(coder, x, y, terms)
    dense = gradients_of(coder)
    found = SparseStep(coder, N, kernels).gradients(x, y, terms)
    parts, code, y_hat, exact = slow_step(coder, x, y, terms)
    for reference in (dense, exact):
        assert_same_gradients(gradients_of(coder), reference, 1e-6)
    assert found.parts.keys() == wanted.parts.keys() == parts.keys()
    for part, value in found.parts.items():
        assert (float(value), float(value)) == pytest.approx((float(wanted.parts[part]), parts[part]), rel=2e-6)
    assert float(found.loss) == pytest.approx(float(wanted.loss), rel=2e-6)
    torch.testing.assert_close(found.latents.dense(), code.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.y_hat, y_hat.float(), rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sampled_from(["topk", "signed", "batchtopk"]),
    st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(2, 24)),
    st.data(),
)
def test_any_shape_equals_the_slow_step_in_float64(kind, shape, data):
    n, d, m = shape
    config = CoderConfig("batchtopk" if kind == "batchtopk" else "topk", d, m, k=data.draw(st.integers(1, m)))
    prefixes = tuple(sorted(data.draw(st.sets(st.integers(1, m - 1), max_size=2))))
    config = config.with_(signed=kind == "signed", prefixes=prefixes, centre_input=data.draw(st.booleans()))
    coder, (x, y) = coder_of(config, seed=m).double(), batch_of(config, n)
    x, y = x.double(), y.double()
    terms = terms_of(config, seed=data.draw(st.integers(0, 99)))
    with patch.object(sparse_step, "PIECE", 8):
        found = SparseStep(coder, n).gradients(x, y, terms)
    parts, _, _, exact = slow_step(coder, x, y, terms)
    assert {name: float(part) for name, part in found.parts.items()} == pytest.approx(parts, rel=1e-9, abs=1e-12)
    assert_same_gradients(gradients_of(coder), exact, 1e-12 if n > 1 else 1e-9)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("worth_it", [0, 8])
@pytest.mark.parametrize("aux_k", [3, 6, 90])
def test_dead_latents_get_the_same_gradients_from_dense_and_from_sparse_products(aux_k, worth_it, kernels, monkeypatch):
    """32 of 96 are dead: dense for 6 and 90 (more than there are), and where it is forbidden, sparse."""
    monkeypatch.setattr(sparse_step, "WORTH_IT", worth_it)
    coder, (x, y) = coder_of(SHAPES["topk"]), batch_of(SHAPES["topk"])
    terms = Terms(aux=2.0, aux_k=aux_k, dead=torch.arange(M) % 3 == 1)
    found = SparseStep(coder, N, kernels).gradients(x, y, terms)
    parts, _, _, exact = slow_step(coder, x, y, terms)
    assert float(found.parts["aux"]) == pytest.approx(parts["aux"], rel=2e-6)
    assert_same_gradients(gradients_of(coder), exact, 1e-6)


@pytest.mark.parametrize("dead", [None, torch.zeros(M, dtype=torch.bool)])
def test_an_aux_term_without_dead_latents_is_zero(dead):
    coder, (x, y) = coder_of(SHAPES["topk"]), batch_of(SHAPES["topk"])
    found = SparseStep(coder, N).gradients(x, y, Terms(aux=2.0, aux_k=6, dead=dead))
    assert float(found.parts["aux"]) == 0
    assert_same_gradients(gradients_of(coder), slow_step(coder, x, y, Terms())[3], 1e-6)


@pytest.mark.parametrize("kernels", KERNELS)
def test_k_of_this_step_counts_and_a_smaller_batch_is_a_batch(kernels):
    config = SHAPES["batchtopk"]
    coder, (x, y) = coder_of(config), batch_of(config, 10)
    found = SparseStep(coder, N, kernels).gradients(x, y, Terms(k=9))
    assert len(found.latents.index) == 90
    _, code, _, exact = slow_step(coder, x, y, Terms(k=9))
    assert_same_gradients(gradients_of(coder), exact, 1e-6)
    assert found.latents.active().tolist() == (code != 0).sum(1).tolist()


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_tokens_with_fewer_positive_entries_than_k_have_fewer_active_latents(name, kernels):
    coder, (x, y) = coder_of(SHAPES[name]), batch_of(SHAPES[name])
    with torch.no_grad():
        coder.b_enc.sub_(2.5)  # a few entries in all stay positive
    found = SparseStep(coder, N, kernels).gradients(x, y, Terms())
    positive = (coder.preactivations(x) > 0).sum(1)
    assert 0 < int(positive.sum()) < N * 5
    wanted = positive.clamp(max=5) if name == "topk" else positive
    assert found.latents.active().tolist() == wanted.tolist()
    assert int(wanted.min()) == 0
    assert_same_gradients(gradients_of(coder), slow_step(coder, x, y, Terms())[3], 1e-6)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["topk", "batchtopk", "skip"])
def test_a_batch_in_which_nothing_is_active_moves_the_biases_only(name, kernels):
    coder, (x, y) = coder_of(SHAPES[name]), batch_of(SHAPES[name])
    with torch.no_grad():
        coder.b_enc.fill_(-100)
    SparseStep(coder, N, kernels).gradients(x, y, Terms())
    assert_same_gradients(gradients_of(coder), slow_step(coder, x, y, Terms())[3], 1e-6)
    assert [bool(gradient.any()) for gradient in (coder.encoder.grad, coder.W_dec.grad, coder.b_dec.grad)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("kernels", KERNELS)
def test_latents_that_never_fire_have_gradients_of_exactly_zero(kernels):
    coder, (x, y) = coder_of(SHAPES["topk"]), batch_of(SHAPES["topk"])
    with torch.no_grad():
        coder.b_enc[3:9] = -100
    SparseStep(coder, N, kernels).gradients(x, y, Terms())
    assert not any(gradients_of(coder)[name][3:9].any() for name in ("encoder", "W_dec", "b_enc"))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_of_equal_entries_exactly_as_many_stay_as_there_is_room_for(name, kernels):
    coder, (x, y) = coder_of(SHAPES[name]), batch_of(SHAPES[name])
    with torch.no_grad():
        coder.encoder[:] = coder.encoder[0]
        coder.b_enc.fill_(0.25)
    code = SparseStep(coder, N, kernels).gradients(x, y, Terms()).latents
    pre = coder.preactivations(x)[:, 0]
    positive = int((pre > 0).sum())
    assert int(code.active().sum()) == (5 * positive if name == "topk" else min(5 * N, M * positive))
    assert code.dense().ne(0).sum(1).tolist() == code.active().tolist(), "a latent was kept twice"
    torch.testing.assert_close(code.value, pre.relu()[code.rows])


def test_gradients_are_set_and_not_added_up():
    coder, (x, y) = coder_of(SHAPES["topk"]), batch_of(SHAPES["topk"])
    step = SparseStep(coder, N)
    step.gradients(x, y, Terms())
    first = gradients_of(coder)
    step.gradients(x, y, Terms())
    assert all(torch.equal(first[name], gradient) for name, gradient in gradients_of(coder).items())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["topk", "batchtopk", "skip"])
@pytest.mark.parametrize("where", ["x", "encoder", "b_enc"])
def test_nan_never_passes_silently(where, name, kernels):
    """A comparison with NaN is false, so a selection of what is above a limit leaves it out, and the loss would look well."""
    coder, (x, y) = coder_of(SHAPES[name]), batch_of(SHAPES[name])
    x, y = x.clone(), y.clone()
    target = {"x": x, "encoder": coder.encoder.data, "b_enc": coder.b_enc.data}[where]
    target[4] = torch.nan
    assert math.isnan(float(SparseStep(coder, N, kernels).gradients(x, y, Terms()).loss))


class Sizes(TorchDispatchMode):
    """The largest number of elements that any operation gave."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        if isinstance(out, torch.Tensor):
            self.largest = max(self.largest, out.numel())
        return out


def test_no_matrix_of_all_tokens_and_latents_is_made():
    config = CoderConfig("topk", 4, 256, k=2)
    coder, (x, y) = coder_of(config), batch_of(config, 200)
    step = SparseStep(coder, 200)
    with Sizes() as sizes:
        step.gradients(x, y, Terms())
    assert sizes.largest < 200 * 256 // 8
    with Sizes() as dense:
        autograd_step.gradients(coder, x, y, Terms())
    assert dense.largest >= 200 * 256, "the dense step must be seen to make one"


# --- choosing in a batch ----------------------------------------------------------------------------------------------


def selected(pre, k, limit=0.0, kernels="torch"):
    """(code, times the batch was seen, what the next batch begins with)."""
    selection = BatchSelection(products(kernels), len(pre), pre.shape[1], k, width=pre.shape[1], limit=limit)
    for times in (1, 2):
        for first in range(0, len(pre), 8):
            selection.see(first, pre[first : first + 8])
        if (code := selection.code()) is not None:
            return code, times, selection.next_limit
    raise AssertionError("a selection must have a code after it saw its batch twice")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("limit", "times"), [(0.0, 1), (0.5, 1), (3.0, 2), (math.inf, 2)])
def test_a_limit_that_is_too_high_costs_a_second_look_and_changes_nothing(limit, times, kernels):
    pre = normal(30, 70)
    code, seen, following = selected(pre, 4, limit, kernels)
    kept = slow.slow_kept(pre.tolist(), 4, batch=True)
    assert seen == times
    torch.testing.assert_close(code.dense(), (kept * pre).float(), rtol=0, atol=0)
    assert following == pytest.approx(0.95 * float(code.value.min()))


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_crowd_of_candidates_is_thinned_out_on_the_way(kernels, monkeypatch):
    pre, seen = normal(64, 70), []
    inner = BatchSelection._thin_out
    monkeypatch.setattr(BatchSelection, "_thin_out", lambda self: seen.append(self._count) or inner(self))
    code, _, _ = selected(pre, 1, 0.0, kernels)
    assert len(seen) > 1
    assert max(seen) < int((pre > 0).sum()), "never all positive entries at once"
    torch.testing.assert_close(
        code.dense(), (slow.slow_kept(pre.tolist(), 1, batch=True) * pre).float(), rtol=0, atol=0
    )


@pytest.mark.parametrize("kernels", KERNELS)
def test_batches_much_smaller_than_the_last_one_are_chosen_from_as_well(kernels):
    """The cut of a large batch is no limit for a small one."""
    coder, (x, y) = coder_of(SHAPES["batchtopk"]), batch_of(SHAPES["batchtopk"])
    step = SparseStep(coder, N, kernels)
    for scale in (100.0, 1.0, 0.01, 1.0):
        found = step.gradients(scale * x, scale * y, Terms())
        fresh = SparseStep(coder, N, kernels).gradients(scale * x, scale * y, Terms())
        assert torch.equal(found.latents.dense(), fresh.latents.dense())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.sampled_from([64, 65, 127, 200]), st.integers(0, 99), st.sampled_from([1.0, 8.0, 1e9]))
def test_compiled_search_equals_torch(n, width, seed, coarse):
    """Widths with and without a rest behind the last block; coarse numbers have many equal ones, at 1e9 all are."""
    pre = (normal(n, 200, seed=seed) * 4 / coarse).round() / 4 if coarse > 1 else normal(n, 200, seed=seed)
    plain, compiled = products("torch"), products("numba")
    value, index = compiled.largest(pre, width, 1 + seed % (width // 64))
    wanted, _ = plain.largest(pre, width, value.shape[1])
    assert torch.equal(value.sort(1).values, wanted.sort(1).values)
    assert torch.equal(pre.gather(1, index), value)
    assert all(len(set(row)) == len(row) and max(row) < width for row in index.tolist())
    for limit in (-9.0, 0.0, 0.5, 9.0):
        for ours, theirs in zip(compiled.above(pre, width, limit), plain.above(pre, width, limit), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kernels", KERNELS)
def test_largest_of_rows_with_nan_or_infinity_gives_places_that_exist(kernels):
    pre = normal(5, 128)
    pre[0, 3], pre[1], pre[2, 70], pre[3, 5] = torch.nan, torch.nan, torch.inf, -torch.inf
    _, index = products(kernels).largest(pre, 128, 2)
    assert set(index.flatten().tolist()) <= set(range(128))


def test_sums_by_latent_are_the_transposed_code_times_rows():
    dense = torch.tensor([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0]])
    code = selections.Latents.from_dense(dense)
    order, tokens, firsts = by_latent(code)
    assert (tokens.tolist(), firsts.tolist(), code.value[order].tolist()) == ([1, 0, 1], [0, 1, 3], [1.0, 2.0, 3.0])
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert (
        summed(rows, code.value[order], tokens, firsts).tolist()
        == [[0, 1], [2, 3], [0, 0]]
        == (dense.T @ rows).tolist()
    )


# --- choices and refusals ---------------------------------------------------------------------------------------------


def test_kernels_are_chosen_with_a_reason(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_kernels().kernels == "numba"
    assert "not torch.float64" in choose_kernels(dtype=torch.float64).reason
    assert "on cuda" in choose_kernels("cuda").reason
    monkeypatch.setattr(sparse_step, "find_spec", lambda name: None)
    assert (choose_kernels().kernels, "trialplate[numba]" in choose_kernels().reason) == ("torch", True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert (choose_kernels().kernels, "4 threads" in choose_kernels().reason) == ("torch", True)


def test_numba_asked_for_and_missing_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "trialplate.sae.step_kernels", raising=False)
    monkeypatch.delattr("trialplate.sae.step_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(TrainingError, match=r"pip install 'trialplate\[numba\]', or use the kernels torch"):
        SparseStep(coder_of(SHAPES["topk"]), N, "numba")


def test_what_a_sparse_step_is_not_for():
    with pytest.raises(TrainingError, match="for topk and batchtopk, not for relu; use the backend autograd"):
        SparseStep(Coder(CoderConfig("relu", D, M)), N)
    with pytest.raises(TrainingError, match="no kernels 'fast' for a sparse step; there are torch, numba"):
        SparseStep(coder_of(SHAPES["topk"]), N, "fast")
    with pytest.raises(TrainingError, match=r"float32 on a CPU, this coder is torch\.float64 on cpu"):
        SparseStep(coder_of(SHAPES["topk"]).double(), N, "numba")
    with pytest.raises(TrainingError, match="at least 1 token, got 0"):
        SparseStep(coder_of(SHAPES["topk"]), 0)


@pytest.mark.parametrize(
    ("x", "y", "terms", "message"),
    [
        ((N + 1, D), (N + 1, D), {}, rf"1 <= n <= {N}; got \[{N + 1}, {D}\]"),
        ((0, D), (0, D), {}, r"got \[0, 12\]"),
        ((4, D - 1), (4, D), {}, r"got \[4, 11\]"),
        ((4, D), (3, D), {}, r"and \[3, 12\]"),
        ((4, D), (4, D), {"l1": 0.5}, "l1=0.5 means nothing for this topk coder"),
        ((4, D), (4, D), {"prefix_weight": 1.0}, "prefix_weight=1.0 means nothing"),
        ((4, D), (4, D), {"k": M + 1}, "k between 1 and d_sae = 96, got 97"),
    ],
)
def test_batches_and_terms_that_cannot_be(x, y, terms, message):
    step = SparseStep(coder_of(SHAPES["topk"]), N)
    with pytest.raises(TrainingError, match=message):
        step.gradients(torch.zeros(x), torch.zeros(y), Terms(**terms))


def test_a_batch_of_another_dtype_is_refused():
    step = SparseStep(coder_of(SHAPES["topk"]), N)
    with pytest.raises(TrainingError, match=r"of torch\.float32.*torch\.float64"):
        step.gradients(torch.zeros(4, D).double(), torch.zeros(4, D).double(), Terms())


# --- unit rows --------------------------------------------------------------------------------------------------------


def test_projection_takes_out_what_lies_along_the_rows():
    coder = Coder(CoderConfig("topk", 2, 2, k=1))
    with torch.no_grad():
        coder.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    coder.W_dec.grad = torch.tensor([[3.0, 4.0], [5.0, 0.0]])
    project_gradients(coder)  # <g, d> = 3 and 3: (3, 4) - 3 (1, 0) and (5, 0) - 3 (0.6, 0.8)
    torch.testing.assert_close(coder.W_dec.grad, torch.tensor([[0.0, 4.0], [3.2, -2.4]]))


def test_projection_reaches_every_row_of_a_long_matrix():
    coder = initialise(Coder(CoderConfig("topk", 3, 700, k=1)), torch.Generator().manual_seed(0))
    coder.W_dec.grad = normal(700, 3)
    project_gradients(coder)
    assert (coder.W_dec.grad * coder.W_dec).sum(1).abs().max() < 1e-6


def test_rows_of_any_length_become_unit_rows_of_the_same_direction():
    coder = Coder(CoderConfig("topk", 2, 2, k=1))
    with torch.no_grad():
        coder.W_dec.copy_(torch.tensor([[3.0, 4.0], [0.0, -0.5]]))
    renormalise(coder)
    torch.testing.assert_close(coder.W_dec.data, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_projection_without_a_gradient_says_what_is_missing():
    with pytest.raises(TrainingError, match="compute the gradients of a batch first"):
        project_gradients(Coder(CoderConfig("topk", 2, 2, k=1)))
