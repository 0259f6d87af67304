"""Rules that leave hidden units out, and a model that runs under them: what stays, what changes, what is left behind."""

import numpy as np
import pytest
import torch
from tests.activations.families import FAMILIES, N_LAYERS, ids, tiny
from torch.nn.functional import gelu

from trialplate.activations.batches import make_plan
from trialplate.activations.calibration import ContributionCounts, calibrated
from trialplate.activations.capture import captured
from trialplate.activations.dynamic_k import Sparsified, positions_of, sparsified
from trialplate.activations.errors import CaptureError, SiteError
from trialplate.activations.rules import Cett, RandomK, Threshold, TopK, contributions, kept_units, row_norms
from trialplate.activations.sites import choose, down_projection
from trialplate.metrics.magnitudes import quantile

D = 64  # hidden units of the tiny GPT-NeoX


@pytest.fixture
def model():
    return tiny("gpt_neox")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


# --- rules -----------------------------------------------------------------------------------------------------------


def test_one_and_one_point_zero_are_not_opposite_extremes():
    """1 unit and the share 1.0 were told apart by their type alone."""
    assert TopK(1.0).bind(0, drawn(8, 3))(drawn(2, 8)).all()
    for rule in (lambda: TopK(1), lambda: TopK(np.int64(1)), lambda: TopK(True), lambda: RandomK(1, torch.Generator())):
        with pytest.raises(
            ValueError,
            match=r"a float in \(0, 1\], got the integer .*: 1.0 keeps all units; to keep n of d units write n / d",
        ):
            rule()


@pytest.mark.parametrize("k", [0.0, -0.1, 1.001, float("nan"), "0.3"])
def test_what_is_no_share_is_refused(k):
    with pytest.raises(ValueError, match=r"k is the share of units that stay, in \(0, 1\]"):
        TopK(k)


def test_large_negative_inputs_of_gelu_are_not_kept():
    """Ranked by the size of the input, unit 0 would come first; it writes nothing."""
    pre = torch.tensor([[-30.0, 0.5, 1.0, -8.0]])
    keep = TopK(0.5).bind(0, torch.ones(4, 2))(gelu(pre))
    assert keep.tolist() == [[False, True, True, False]]
    assert pre.abs().topk(2).indices.tolist() == [[0, 3]]


def test_units_rank_by_what_they_write():
    # c = |h| ||W||: 3 * 0.1, 2 * 1, 1 * 5; by |h| alone the order is the opposite
    rows = torch.tensor([[0.1, 0.0], [0.0, 1.0], [3.0, 4.0]])
    hidden = torch.tensor([[3.0, -2.0, 1.0]])
    assert contributions(hidden, row_norms(rows)).tolist()[0] == pytest.approx([0.3, 2.0, 5.0])
    assert TopK(1 / 3).bind(0, rows)(hidden).tolist() == [[False, False, True]]
    assert Threshold({0: 1.9}, 0.5).bind(0, rows)(hidden).tolist() == [[False, True, True]]
    assert Threshold({0: 2.0}, 0.5).bind(0, rows)(hidden).tolist() == [[False, False, True]]  # above, not at


def test_every_number_of_units_has_its_share():
    """floor(0.29 * 100) is 28: the product lies a little below 29."""
    assert kept_units(0.29, 100) == 29
    assert all(kept_units(n / d, d) == n for d in range(1, 120) for n in range(1, d + 1))
    assert kept_units(1e-9, 512) == 1


def test_rules_keep_what_the_slow_form_keeps(slow):
    rows, hidden = drawn(24, 5, seed=1), drawn(7, 24, seed=2)
    c = contributions(hidden, row_norms(rows))
    limit = float(c.median()) * 1.0001
    for token, keep in enumerate(TopK(0.25).bind(0, rows)(hidden)):
        assert keep.nonzero().flatten().tolist() == slow.slow_top_k(hidden[token].tolist(), rows.tolist(), 6)
    for token, keep in enumerate(Threshold({0: limit}, 0.5).bind(0, rows)(hidden)):
        assert keep.nonzero().flatten().tolist() == slow.slow_threshold(hidden[token].tolist(), rows.tolist(), limit)
    for token, keep in enumerate(Cett(0.3).bind(0, rows)(hidden)):
        assert keep.nonzero().flatten().tolist() == slow.slow_cett(hidden[token].tolist(), rows.tolist(), 0.3)


def test_random_units_are_new_for_every_token_and_come_from_their_generator():
    before = torch.get_rng_state()
    one, two = (RandomK(0.25, torch.Generator().manual_seed(3)).bind(0, drawn(16, 2))(drawn(50, 16)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.sum(1).tolist() == [4] * 50
    assert len({tuple(row) for row in one.tolist()}) > 40
    assert torch.equal(torch.get_rng_state(), before)


def test_a_broken_activation_is_never_left_out():
    """NaN <= limit is false, and so is NaN > limit: written the other way round, a mask would hide it."""
    hidden = torch.tensor([[1.0, float("nan"), 0.5, 0.1]])
    rows = torch.ones(4, 2)
    assert TopK(0.25).bind(0, rows)(hidden).tolist() == [[False, True, False, False]]
    assert Threshold({0: 100.0}, 0.1).bind(0, rows)(hidden).tolist() == [[False, True, False, False]]


def test_messages_of_rules():
    with pytest.raises(ValueError, match=r"a threshold wants one limit a layer, got \{\}; calibrate it"):
        Threshold({}, 0.5)
    with pytest.raises(ValueError, match=r"one limit a layer, got \{0: nan\}"):
        Threshold({0: float("nan")}, 0.5)
    with pytest.raises(ValueError, match=r"no threshold for layer 2: calibrated were layers 0, 1\. Calibrate it too"):
        Threshold({0: 1.0, 1: 1.0}, 0.5).bind(2, drawn(4, 2))
    with pytest.raises(ValueError, match=r"the share of the output that may be lost, in \[0, 1\), got 1.0"):
        Cett(1.0)


# --- a model under a rule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_with_all_units_the_logits_are_the_same_bit_for_bit(family):
    model = tiny(family)
    before = model.logits(ids())
    for rule in (TopK(1.0), Threshold(dict.fromkeys(range(N_LAYERS), -1.0), 1.0), RandomK(1.0, torch.Generator())):
        with sparsified(model, rule) as found:
            assert torch.equal(model.logits(ids()), before)
        assert found.kept_by_layer == dict.fromkeys(range(N_LAYERS), 1.0)
    with sparsified(model, TopK(0.05)):
        assert not torch.equal(model.logits(ids()), before)
    assert torch.equal(model.logits(ids()), before)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_what_the_mlp_writes_is_what_the_kept_units_write(family, slow):
    """GPT-2 stores its matrix the other way round; Llama's units are products of gate and up branch, without a bias."""
    model = tiny(family)
    down = down_projection(model, 1)
    bias = [0.0] * 32 if down.bias is None else down.bias.tolist()
    with sparsified(model, TopK(0.2), [1]):
        site, out = choose(model, ["L1.mlp_act", f"{down.path}.output"])
        found = captured(model, ids(1, 4), [site, out])
    hidden = captured(model, ids(1, 4), [site])["L1.mlp_act"]
    for token in range(4):
        units, rows = hidden[0, token].tolist(), down.rows.tolist()
        kept = slow.slow_top_k(units, rows, kept_units(0.2, len(rows)))
        expected = slow.slow_projection(units, rows, bias, kept)
        assert found[out.name][0, token].tolist() == pytest.approx(expected, abs=1e-5)


def test_hooks_are_gone_after_an_exception(model):
    before = model.logits(ids())
    with pytest.raises(ZeroDivisionError), sparsified(model, TopK(0.1), protect_first=1):
        assert hooks_of(model) == N_LAYERS + 2
        _ = 1 / 0
    with pytest.raises(IndexError), sparsified(model, TopK(0.1), protect_first=1):
        model.logits(torch.tensor([[9999]]))
    assert hooks_of(model) == 0
    assert torch.equal(model.logits(ids()), before)


def test_kept_share_is_counted(model):
    with sparsified(model, TopK(0.3), [0, 2]) as found:  # 0.3 * 64 = 19.2
        model.logits(ids(3, 20))
    assert found.kept_by_layer == {0: 19 / D, 2: 19 / D}
    assert found.kept_share == 19 / D
    # of 20 positions in each row, 4 stay dense
    with sparsified(model, TopK(0.25), protect_first=4) as found:
        model.logits(ids(3, 20))
    assert found.kept_share == (4 * D + 16 * 16) / (20 * D)


def test_kept_share_of_a_threshold_is_that_of_its_hidden_units(model):
    hidden = captured(model, ids(), choose(model, ["L0.mlp_act"]))["L0.mlp_act"]
    down = down_projection(model, 0)
    c = contributions(hidden, row_norms(down.rows))
    limit = float(c.median())
    with sparsified(model, Threshold({0: limit}, 0.5), [0]) as found:
        model.logits(ids())
    assert found.kept_share == int((c > limit).sum()) / c.numel()
    assert found.kept_share == pytest.approx(0.5, abs=0.01)


def test_cells_that_do_not_count_are_left_out_of_the_share(model):
    """Padding runs, but says nothing about the texts."""
    real = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    limit = {0: float(contributions(drawn(1, D), torch.ones(D)).max()) * 1e-3}
    alone = Sparsified(model, Threshold(limit, 0.5), [0])
    for row in (ids(2, 6)[:1], ids(2, 6)[1:, :2]):
        with alone.running():
            model.logits(row)
    together = Sparsified(model, Threshold(limit, 0.5), [0])
    with together.running(counted=real):
        model.logits(ids(2, 6).where(real, 0))
    assert together.kept_share == alone.kept_share
    assert 0 < together.kept_share < 1


def test_protected_positions_are_dense_whatever_stands_before_them(model):
    text = ids(1, 8)
    with sparsified(model, TopK(0.02), protect_first=3):
        plain = model.logits(text)[0]
        mask = torch.tensor([[0] * 5 + [1] * 8])
        padded = model.logits(torch.cat([text.new_zeros(1, 5), text], 1), mask)[0, 5:]
    torch.testing.assert_close(plain[:3], model.logits(text)[0, :3], rtol=0, atol=0)
    assert not torch.equal(plain[3], model.logits(text)[0, 3])
    torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "opt"])
def test_decoding_protects_the_same_positions_as_one_pass(family):
    """A decoding step is one column wide: its column is 0, its position is not."""
    model, text = tiny(family), ids(1, 7)
    with sparsified(model, TopK(0.02), protect_first=2) as found:
        whole = model.logits(text)[0]
        n_whole = found.kept_share
        first, state = model.start(text[:, :1])
        torch.testing.assert_close(first[0], whole[0], rtol=1e-5, atol=1e-6)
        for position in range(1, 7):
            logits, state = model.step(state, text[:, position : position + 1])
            torch.testing.assert_close(logits[0], whole[position], rtol=1e-5, atol=1e-6)
    assert found.kept_share == n_whole  # the second reading kept as many units as the first


def test_what_is_found_out_about_a_model_is_found_out_without_a_rule(model):
    """Whether the head can be split off is seen by running the model twice, and is remembered: under random units the two runs differ."""
    with sparsified(model, RandomK(0.1, torch.Generator())) as found:
        assert model.splits_head
    with pytest.raises(ValueError, match="nothing ran"):
        _ = found.kept_share


def test_positions_without_positions_or_mask_are_columns_or_unknown():
    text = ids(2, 3)
    assert positions_of((text,), {}).tolist() == [[0, 1, 2]] * 2
    assert positions_of((), {"input_ids": text, "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}).tolist() == [
        [0, 0, 1],
        [0, 1, 2],
    ]
    assert positions_of((text,), {"position_ids": torch.tensor([[5, 6, 7]])}).tolist() == [[5, 6, 7]] * 2
    with pytest.raises(CaptureError, match="added to a cache without positions or a mask"):
        positions_of((text,), {"past_key_values": object()})


def test_messages_of_a_model_under_a_rule(model):
    with pytest.raises(ValueError, match="wanted at least one layer, each once, got \\[\\]; None means all 3"):
        Sparsified(model, TopK(0.5), [])
    with pytest.raises(ValueError, match="each once, got \\[1, 1\\]"):
        Sparsified(model, TopK(0.5), [1, 1])
    with pytest.raises(SiteError, match="the model has layers 0 to 2"):
        Sparsified(model, TopK(0.5), [3])
    with pytest.raises(ValueError, match="protect_first is a number of positions at the beginning of a text, got -1"):
        Sparsified(model, TopK(0.5), protect_first=-1)
    with pytest.raises(ValueError, match="tiny-gpt_neox: nothing ran under the rule topk"):
        _ = Sparsified(model, TopK(0.5)).kept_share
    with (
        pytest.raises(
            CaptureError, match="no module that can be watched, so positions are not known; use protect_first=0"
        ),
        sparsified(tiny("asm"), TopK(0.5), protect_first=1),
    ):
        pass


# --- calibration -----------------------------------------------------------------------------------------------------


def test_calibrated_thresholds_keep_their_share_on_their_own_texts(model):
    """One layer, so that nothing before it is sparse; the histogram is exact to 0.8 % of the limit, which moves few of 64 * 60 entries."""
    texts = ids(3, 20).tolist()
    for rule in calibrated(model, texts, [0.1, 0.3, 0.5, 0.9, 1.0], [1]):
        with sparsified(model, rule, [1]) as found:
            model.logits(torch.tensor(texts))
        assert found.kept_share == pytest.approx(rule.asked, abs=0.01)
        assert set(rule.limits) == {1}
    assert found.kept_share == 1.0


def test_protected_positions_do_not_move_a_threshold(model):
    """One position a thousand times as large as the others must not decide what is large."""
    tokens = make_plan({"text": [[1, 2, 3], [4, 5]]}, max_length=9, positions=99).batches[0].tokens()
    values = torch.where(tokens.position[:, None] == 0, 1000.0, torch.tensor([1.0, 2.0]))
    with_first, without = (ContributionCounts(torch.ones(2), skip_first=n) for n in (0, 1))
    for counts in (with_first, without):
        counts.update(values, tokens)
    assert quantile(with_first.counts, 1.0) > 1000
    assert quantile(without.counts, 1.0) < 2.02
    assert int(without.counts.sum()) == 2 * 3
    plain, protected = (calibrated(model, ids(2, 12).tolist(), [0.25], [0], protect_first=n)[0] for n in (0, 6))
    assert plain.limits != protected.limits


def test_messages_of_calibration(model):
    with pytest.raises(ValueError, match="no share was named; wanted some"):
        calibrated(model, ids().tolist(), [])
    with pytest.raises(ValueError, match="got the integer 1"):
        calibrated(model, ids().tolist(), [1])
    with pytest.raises(CaptureError, match="document 0 has no tokens"):
        calibrated(model, [[]], [0.5])
    with pytest.raises(ValueError, match="nothing was measured"):
        calibrated(model, ids().tolist(), [0.5], protect_first=20)
