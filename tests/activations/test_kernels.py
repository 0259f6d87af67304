"""Down projections that read only the rows of units that stay: equal to mask and product, refused where they would not be, and what they gain."""

import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.activations.families import FAMILIES, N_LAYERS, ids, tiny
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trialplate.activations.decoding_speed import decoding_speed, speedup_ceiling, weights_per_token, without
from trialplate.activations.dynamic_k import Sparsified, sparsified
from trialplate.activations.kernels import KERNELS, KernelError, SparseProjections, bound_projection
from trialplate.activations.rules import Cett, RandomK, Threshold, TopK, kept_units
from trialplate.activations.sites import down_projection
from trialplate.models.causal_lm import CausalLM
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import byte_tokenizer

RULES = {
    "topk": TopK(0.2),
    "threshold": Threshold(dict.fromkeys(range(N_LAYERS), 2e-3), 0.5),
    "cett": Cett(0.2),
    "all": TopK(1.0),
}


@pytest.fixture(scope="module")
def compiled():
    from trialplate.activations import gather_numba

    return gather_numba


def decoded(model, n=4):
    """Logits [n, v] of n steps after a prompt that is read by the caller's model as it stands."""
    _, state = model.start(ids(1, 5))
    yield
    found = []
    for token in ids(1, n, seed=1)[0]:
        logits, state = model.step(state, token.view(1, 1))
        found.append(logits[0])
    yield torch.stack(found)


# --- equal to mask and product ---------------------------------------------------------------------------------------


EVERY = [(family, "gather-numba") for family in FAMILIES]


@pytest.mark.parametrize(
    ("family", "kernel"), [*EVERY, ("gpt2", "mask"), ("gpt2", "index"), ("llama", "mask"), ("llama", "index")]
)
def test_decoding_by_kernel_equals_mask_and_product(family, kernel):
    """Float32, after three layers and the head; the kept share is counted alike."""
    model = tiny(family)
    for rule in RULES.values():
        run, plain = decoded(model), decoded(model)
        next(run), next(plain)
        fast, slow_form = SparseProjections(model, rule, kernel=kernel), Sparsified(model, rule)
        with fast.in_place():
            ours = next(run)
        with slow_form.running():
            theirs = next(plain)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert fast.kept_by_layer == slow_form.kept_by_layer
        assert fast.kept_share == slow_form.kept_share
        assert fast.kernel == kernel


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_one_projection_equals_the_slow_form(family, kernel, slow):
    """GPT-2 stores [d, d_out] and has a bias, Llama [d_out, d] and none."""
    model = tiny(family, initializer_range=0.5)
    down = down_projection(model, 1)
    rows, d = down.rows.tolist(), len(down.rows)
    bias = [0.0] * 32 if down.bias is None else down.bias.uniform_(-1, 1).tolist()
    for k in (1 / d, 0.1, 0.5):
        hidden = torch.randn(d, generator=torch.Generator().manual_seed(int(100 * k)))
        y, kept = bound_projection(model, TopK(k), 1, down, kernel)(hidden)
        chosen = slow.slow_top_k(hidden.tolist(), rows, kept_units(k, d))
        assert kept == len(chosen)
        assert y.tolist() == pytest.approx(slow.slow_projection(hidden.tolist(), rows, bias, chosen), abs=1e-5)


def test_random_units_go_through_every_kernel():
    model = tiny("gpt_neox")
    for kernel in KERNELS:
        fast = SparseProjections(model, RandomK(0.25, torch.Generator().manual_seed(0)), kernel=kernel)
        run = decoded(model)
        next(run)
        with fast.in_place():
            next(run)
        assert fast.kept_share == 0.25


# --- the compiled selection ------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.data())
def test_radix_selection_equals_sorting(compiled, values, data):
    """Exactly n units, the largest; of equal ones the lowest numbers. Few distinct values make ties common."""
    hidden = np.array(values, np.float32)
    if data.draw(st.booleans()):
        hidden = np.round(hidden / 200).astype(np.float32)
    d = len(hidden)
    n = data.draw(st.integers(1, d))
    room = np.empty(d, np.float32), np.empty(compiled.N_COUNTS, np.int64), np.empty(d + 1, np.int64)
    assert compiled.largest(hidden, np.ones(d, np.float32), n, *room) == n
    assert room[2][:n].tolist() == sorted(np.argsort(-np.abs(hidden), kind="stable")[:n].tolist())


def test_compiled_selection_never_leaves_out_what_is_broken(compiled):
    """NaN of either sign, as 0 * infinity gives on most processors, comes first; so does infinity."""
    hidden = np.array([1.0, np.nan, 5.0, np.inf, -np.nan, np.inf], np.float32)
    norms = np.array([1, 1, 1, 1, 1, 0], np.float32)
    room = np.empty(6, np.float32), np.empty(compiled.N_COUNTS, np.int64), np.empty(7, np.int64)
    for n, expected in ((3, [1, 4, 5]), (4, [1, 3, 4, 5]), (5, [1, 2, 3, 4, 5])):
        assert compiled.largest(hidden, norms, n, *room) == n
        assert room[2][:n].tolist() == expected
    n = compiled.above(hidden, norms, np.float32(100), room[2])
    assert room[2][:n].tolist() == [1, 3, 4, 5]


def test_every_number_of_rows_is_added_up(compiled):
    """Rows go four at a time: 0 to 9 of them, with and without a rest."""
    rows = np.arange(1, 31, dtype=np.float32).reshape(10, 3)
    hidden, out = np.full(10, 2, np.float32), np.empty(3, np.float32)
    for n in range(10):
        compiled.project(hidden, np.arange(10)[::-1].copy(), n, rows, np.ones(3, np.float32), out)
        assert out.tolist() == (1 + 2 * rows[::-1][:n].sum(0)).tolist()


# --- what is refused, and what is left behind ------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_than_one_token_is_refused(kernel):
    """Several tokens share one product; a kernel that took them one by one would be slower and look the same."""
    model = tiny("gpt_neox")
    fast = SparseProjections(model, TopK(0.5), kernel=kernel)
    with (
        fast.in_place(),
        pytest.raises(
            KernelError, match=r"L0 was called with 2 tokens at once; a kernel computes one\. Read the prompt before"
        ),
    ):
        model.logits(ids(2, 1))
    _, state = model.start(ids(2, 4))
    with fast.in_place(), pytest.raises(KernelError, match="2 tokens at once"):
        model.step(state, ids(2, 1))


@pytest.mark.parametrize("kernel", KERNELS)
def test_modules_compute_by_themselves_after_an_exception(kernel):
    model = tiny("gpt_neox")
    before = model.logits(ids())
    with pytest.raises(ZeroDivisionError), SparseProjections(model, TopK(0.1), kernel=kernel).in_place():
        _ = 1 / 0
    with pytest.raises(KernelError), SparseProjections(model, TopK(0.1), kernel=kernel).in_place():
        model.logits(ids())
    assert not any("forward" in vars(module) for module in model.module.modules())
    assert torch.equal(model.logits(ids()), before)


def test_without_numba_the_message_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "trialplate.activations.gather_numba", raising=False)
    monkeypatch.delattr("trialplate.activations.gather_numba", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(
        KernelError,
        match=r"needs numba, which is not installed: pip install 'trialplate\[numba\]', or use the kernel index",
    ):
        SparseProjections(tiny("gpt_neox"), TopK(0.5))
    SparseProjections(tiny("gpt_neox"), TopK(0.5), kernel="index")


def test_a_narrow_dtype_is_refused_by_the_compiled_loops_and_taken_by_torch():
    spec = ModelSpec("narrow", dtype="bfloat16")
    model = CausalLM(spec, tiny("gpt_neox").module.to(torch.bfloat16), byte_tokenizer())
    with pytest.raises(
        KernelError, match="narrow: the kernel gather-numba computes float32 on a CPU, L0 is bfloat16 on cpu"
    ):
        SparseProjections(model, TopK(0.5))
    run, plain = decoded(model), decoded(model)
    next(run), next(plain)
    with SparseProjections(model, TopK(0.5), kernel="index").in_place():
        ours = next(run)
    with sparsified(model, TopK(0.5)):
        torch.testing.assert_close(ours, next(plain), rtol=2e-2, atol=2e-2)


def test_messages():
    model = tiny("gpt_neox")
    with pytest.raises(KernelError, match="no kernel 'fast'; there are mask, index, gather-numba"):
        SparseProjections(model, TopK(0.5), kernel="fast")
    with pytest.raises(ValueError, match="nothing ran through the kernel index"):
        _ = SparseProjections(model, TopK(0.5), kernel="index").kept_share
    peft = pytest.importorskip("peft")
    model.module = peft.get_peft_model(model.module, peft.LoraConfig(target_modules=["dense_4h_to_h"])).eval()
    with pytest.raises(
        KernelError, match="L0 stands under an adapter, whose part the kernel index would leave out; merge it"
    ):
        SparseProjections(model, TopK(0.5), kernel="index")


# --- what it gains ---------------------------------------------------------------------------------------------------


def test_ceiling_of_pythia_70m_is_1_16():
    """Six down projections of 512 x 2048 among 44.7 million weights that a token reads: the head alone is 25.8 million."""
    config = GPTNeoXConfig(
        vocab_size=50304, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048
    )
    with torch.device("meta"):
        model = CausalLM(ModelSpec("shape"), GPTNeoXForCausalLM(config), byte_tokenizer())
    assert weights_per_token(model) == 70_426_624 - 50_303 * 512
    assert speedup_ceiling(model) == pytest.approx(1 / (1 - 6 * 512 * 2048 / 44_671_488), rel=1e-12)
    assert speedup_ceiling(model) == pytest.approx(1.16, abs=0.005)
    assert speedup_ceiling(model, [0, 5]) < speedup_ceiling(model, kept=0.3) < speedup_ceiling(model)
    assert speedup_ceiling(model, kept=1.0) == 1
    with pytest.raises(ValueError, match=r"the share that stays lies in \[0, 1\], got 2"):
        speedup_ceiling(model, kept=2)


def test_a_tied_table_is_read_whole_as_the_head():
    """GPT-2: 257 x 32 of the head that is also the embedding, one row of 64 x 32 positions."""
    model = tiny("gpt2")
    assert weights_per_token(model) == model.n_parameters - 63 * 32


@pytest.mark.parametrize("kernel", KERNELS)
def test_decoding_speed_says_what_ran(kernel):
    """A clock that ticks once a look: every run takes one second, so all ratios are 1 and nothing is gained."""
    model = tiny("gpt_neox")
    found = decoding_speed(
        model,
        [1] * 54,
        TopK(0.25),
        kernel=kernel,
        layers=[2, 0],
        new_tokens=100,
        repeats=3,
        clock=itertools.count().__next__,
    )
    assert (found.kernel, found.rule, found.asked, found.layers) == (kernel, "topk", 0.25, (0, 2))
    assert (found.prompt_tokens, found.new_tokens, found.repeats) == (54, 10, 3)  # the window of 64 ends first
    assert found.kept_share == 0.25
    assert found.threads == torch.get_num_threads()
    assert (found.device, found.dtype) == ("cpu", "float32")
    assert found.dense.median == found.sparse.median == found.removed.median == 10
    assert (found.speedup.low, found.speedup.median, found.speedup.high) == (1, 1, 1)
    assert found.efficiency == 0
    assert found.speedup_ceiling == speedup_ceiling(model, [0, 2])
    assert not any("forward" in vars(module) for module in model.module.modules())


def test_efficiency_by_hand(monkeypatch):
    """Dense 4 s, sparse 3.2 s, without 2 s: speedup 1.25 of a ceiling by weights that is set to 1.5, so half of what could be gained."""
    seconds = {"dense": 4.0, "sparse": 3.2, "removed": 2.0}
    order = []

    def timed(model, text, steps, way, clock):
        name = {"nullcontext": "dense", "in_place": "sparse"}.get(way.__name__, "removed")
        order.append(name)
        with way():
            if name == "sparse":
                model.step(model.start_state, ids(1, 1))
        return seconds[name]

    model = tiny("gpt_neox")
    _, model.start_state = model.start(ids(1, 2))
    monkeypatch.setattr("trialplate.activations.decoding_speed._seconds", timed)
    monkeypatch.setattr("trialplate.activations.decoding_speed.speedup_ceiling", lambda model, layers: 1.5)
    found = decoding_speed(model, [1], TopK(0.5), new_tokens=8, repeats=3, kernel="index")
    assert found.speedup.median == pytest.approx(1.25)
    assert found.measured_ceiling.median == 2
    assert found.efficiency == pytest.approx(0.5)
    assert (found.dense.median, found.sparse.median, found.removed.median) == (2, 2.5, 4)
    # one round to warm up and three that count, each way once in each place
    assert [order[i : i + 3][0] for i in range(0, 12, 3)] == ["dense", "sparse", "removed", "dense"]


def test_without_down_projections_nothing_is_written():
    model = tiny("llama")
    down = down_projection(model, 1)
    with without([down]):
        assert not down.module(torch.ones(1, 3, 64)).any()
    assert down.module(torch.ones(1, 3, 64)).any()


def test_messages_of_speed():
    model = tiny("gpt_neox")
    for prompt, more in (([], {}), ([1] * 64, {}), ([1], {"new_tokens": 0}), ([1], {"repeats": 1})):
        with pytest.raises(ValueError, match="wanted a prompt of 1 to 63 tokens, at least 1 new token and 2 rounds"):
            decoding_speed(model, prompt, TopK(0.5), kernel="index", **more)
