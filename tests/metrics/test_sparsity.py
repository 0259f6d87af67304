"""Sparsity of a token: values by hand, constants of known distributions, laws, and agreement with the slow form."""

import math

import numpy as np
import pytest
import torch
from building_blocks import sparsity_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from trialplate.metrics.sparsity import TOKEN_MEASURES, cluster_sums, population_mean, token_gini, token_sparsity

SIZES = st.integers(-512, 512).map(lambda k: k / 64)
ROWS = st.integers(2, 12).flatmap(
    lambda d: st.lists(st.lists(SIZES, min_size=d, max_size=d), min_size=1, max_size=6).map(torch.tensor)
)
SLOW = {
    "act_frac@0": lambda row: slow.slow_share_above(row, 0),
    "act_frac@rel": lambda row: slow.slow_share_above_largest(row, 0.01),
    "zero_frac": slow.slow_zero_share,
    "treves_rolls": slow.slow_treves_rolls,
    "hoyer": slow.slow_hoyer,
}
PI = math.pi
# act_frac@0, treves_rolls, hoyer, gini; the shape of |h|
ANCHORS = {
    "relu": (1 / 2, 1 / PI, 1 - 1 / math.sqrt(PI), math.sqrt(1 / 2)),
    "abs": (1, 2 / PI, 1 - math.sqrt(2 / PI), math.sqrt(2) - 1),
    "laplace": (1 / 2, 1 / 2, 1 - math.sqrt(1 / 2), 1 / 2),
    "gelu": (1 / 2, 0.375, 0.389, 0.589),
}


def stratified(n=200_000, seed=0):
    """n numbers in (0, 1), one at a random place of each n-th part, in random order: far less scatter than n free draws."""
    rng = np.random.default_rng(seed)
    return rng.permutation((np.arange(n) + rng.random(n)) / n)


def draws(name):
    uniform = stratified()
    if name == "laplace":
        return torch.from_numpy(np.sign(uniform - 0.5) * -np.log1p(-2 * np.abs(uniform - 0.5))).float()
    normal = torch.from_numpy(ndtri(uniform)).float()
    return {"relu": torch.relu, "abs": torch.abs, "gelu": torch.nn.functional.gelu}[name](normal)


def measures_of(rows, **options):
    return {**token_sparsity(rows, **options), "gini": token_gini(rows)}


def same(one, two, **tolerance):
    torch.testing.assert_close(one, two, equal_nan=True, **(tolerance or {"rtol": 0, "atol": 0}))


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_measures_by_hand():
    found = measures_of(torch.tensor([[3.0, -4.0, 0.0, 0.0], [0.01, 1.0, 1.0, 1.0]]))
    # row 0: L1 = 7, L2 = 5, 4 units: (7/5)^2 / 4, (2 - 7/5) / 1; sorted 0 0 3 4: 1 - 2 (3/7 * 3/2 + 4/7 * 1/2) / 4 = 1 - 13/28
    assert [found[name][0].item() for name in TOKEN_MEASURES] == pytest.approx([0.25, 0.5, 0.5, 0.49, 0.6])
    assert found["gini"][0].item() == pytest.approx(15 / 28)
    # row 1: an entry of exactly 1 % of the largest is not above it
    assert found["act_frac@0"][1] == 1
    assert found["act_frac@rel"][1] == 0.75


def test_one_hot_and_flat_are_the_ends():
    found = measures_of(torch.tensor([[0.0, 0.0, -7.0, 0.0], [2.0, -2.0, 2.0, 2.0]]))
    assert found["hoyer"].tolist() == [1, 0]
    assert found["treves_rolls"].tolist() == [0.25, 1]
    assert found["gini"].tolist() == pytest.approx([0.75, 0])


def test_threshold_and_share_of_the_largest_can_be_chosen():
    rows = torch.tensor([[0.5, 1.0, 2.0, -8.0]])
    assert token_sparsity(rows, threshold=1.0)["act_frac@0"].item() == 0.25
    assert token_sparsity(rows, relative=0.2)["act_frac@rel"].item() == 0.5
    for wrong in ({"relative": 1.0}, {"threshold": math.nan}):
        with pytest.raises(ValueError, match="share of the largest"):
            token_sparsity(rows, **wrong)


def test_a_token_of_zeros_has_no_shape():
    found = measures_of(torch.tensor([[0.0, 0.0, -0.0], [0.0, 1.0, 1.0]]))
    for name in ("treves_rolls", "hoyer", "gini"):
        assert found[name].isnan().tolist() == [True, False]
    assert [found[name][0].item() for name in TOKEN_MEASURES[:3]] == [0, 0, 1]


# --- known distributions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANCHORS)
def test_constants_of_known_distributions_to_one_percent(name):
    found = measures_of(draws(name).unsqueeze(0))
    measured = [found[key].item() for key in ("act_frac@0", "treves_rolls", "hoyer", "gini")]
    assert measured == pytest.approx(ANCHORS[name], rel=0.01)


def test_gelu_of_a_normal_is_an_eighth_below_a_tenth_of_its_sd():
    h = draws("gelu")
    assert (h.abs() < 0.1 * h.std()).double().mean().item() == pytest.approx(0.128, rel=0.01)


def test_pooled_participation_ratio_does_not_grow_with_tokens():
    """(sum h+)^2 / sum h+^2 over all entries of a stream is proportional to its length; per token, over d, it is a property of the model."""
    rows = torch.randn(512, 64, generator=torch.Generator().manual_seed(0)).relu()
    few, many = rows[:64], rows

    def pooled(h):
        return (h.sum() ** 2 / h.square().sum()).item()

    assert pooled(many) / pooled(few) == pytest.approx(8, rel=0.1)
    short, long = (token_sparsity(h)["treves_rolls"].mean().item() for h in (few, many))
    assert long == pytest.approx(short, rel=0.05)
    assert long == pytest.approx(1 / PI, rel=0.05)
    assert token_sparsity(many.reshape(1, -1))["treves_rolls"].item() == pytest.approx(
        pooled(many) / many.numel(), rel=1e-5
    )


def test_signed_mlp_output_shows_half_active_whatever_the_model():
    """Why the output of an MLP is no site for these measures: any mixture of signed directions is positive in half of its entries."""
    generator = torch.Generator().manual_seed(0)
    for share_active in (0.02, 0.2, 1.0):
        hidden = torch.randn(200, 1024, generator=generator).relu()
        hidden *= torch.rand(200, 1024, generator=generator) < share_active
        written = hidden @ torch.randn(1024, 4096, generator=generator)
        assert token_sparsity(hidden)["act_frac@0"].mean().item() == pytest.approx(share_active / 2, rel=0.05)
        assert token_sparsity(written)["act_frac@0"].mean().item() == pytest.approx(0.5, abs=0.02)


# --- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_equals_the_slow_form(rows):
    found = measures_of(rows)
    for name, one in {**SLOW, "gini": slow.slow_gini}.items():
        wanted = [one(row) for row in rows.tolist()]
        same(found[name], torch.tensor([math.nan if w is None else w for w in wanted]), rtol=1e-5, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(-100, 100))
def test_scale_does_not_matter(rows, exponent):
    before, after = measures_of(rows), measures_of(rows * 2.0**exponent)
    for name in before:
        same(before[name], after[name])
    tripled = measures_of(rows * 3)
    for name in before:
        same(before[name], tripled[name], rtol=1e-5, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_units_does_not_matter_and_silent_units_make_it_sparser(rows, random):
    order = list(range(rows.shape[1]))
    random.shuffle(order)
    before, mixed = measures_of(rows), measures_of(rows[:, order])
    wider = measures_of(torch.cat([rows, torch.zeros_like(rows)], dim=1))
    for name in before:
        same(before[name], mixed[name], rtol=1e-5, atol=2e-6)
    shaped = ~before["hoyer"].isnan()
    same(wider["treves_rolls"], before["treves_rolls"] / 2, rtol=1e-5, atol=1e-6)
    assert bool((wider["gini"] > before["gini"])[shaped].all())


@settings(max_examples=40, deadline=None)
@given(ROWS, st.data())
def test_any_split_of_the_stream_gives_the_same_tables(rows, data):
    n = len(rows)
    cluster = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    whole = cluster_sums(measures_of(rows), cluster, 4)
    cut = data.draw(st.integers(0, n))
    parts = [cluster_sums(measures_of(rows[s]), cluster[s], 4) for s in (slice(cut), slice(cut, n)) if len(rows[s])]
    same(sum(p[0] for p in parts), whole[0], rtol=1e-6, atol=1e-6)
    assert torch.equal(sum(p[1] for p in parts), whole[1])


def test_blocks_of_rows_do_not_show(monkeypatch):
    rows = torch.randn(37, 50, generator=torch.Generator().manual_seed(0))
    whole = measures_of(rows)
    monkeypatch.setattr("trialplate.metrics.sparsity._CPU_ENTRIES", 200)
    for name, values in measures_of(rows).items():
        same(values, whole[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_kinds_of_floats_agree(dtype):
    rows = torch.randn(9, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    found, wanted = measures_of(rows), measures_of(rows.float())
    for name, values in found.items():
        assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        same(values.float(), wanted[name], rtol=1e-5, atol=2e-6)


def test_half_precision_is_widened_before_it_is_squared():
    rows = torch.tensor([[600.0, 300.0, 300.0]], dtype=torch.float16)  # 600^2 is beyond float16; L1/L2 = 4 / sqrt 6
    assert token_sparsity(rows)["treves_rolls"].item() == pytest.approx(16 / 18)


# --- means over tokens -----------------------------------------------------------------------------------------------


def test_mean_over_tokens_by_hand():
    # two texts of 1 and 3 tokens: mean 6/4; residuals 3 - 1.5, 3 - 4.5: var = 2 * 4.5 / 16
    estimate = population_mean([3, 0, 3], [1, 0, 3])
    assert (estimate.value, estimate.n) == (1.5, 2)
    assert estimate.stderr == pytest.approx(0.75)


def test_undefined_tokens_are_neither_summed_nor_counted():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    sums, counts = cluster_sums(token_sparsity(rows), torch.tensor([0, 0, 1]), 3)
    hoyer = TOKEN_MEASURES.index("hoyer")
    assert sums[:, hoyer].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert counts[:, hoyer].tolist() == [1, 1, 0]
    assert counts[:, 0].tolist() == [2, 1, 0]
    assert population_mean(sums[:, hoyer], counts[:, hoyer]).value == pytest.approx(0.5)


def test_a_measure_of_no_token_is_no_number():
    with pytest.raises(ValueError, match="defined for no token"):
        population_mean([0, 0], [0, 0])
    with pytest.raises(ValueError, match="one sum and one count"):
        population_mean([1, 2], [1])


@pytest.mark.parametrize("cluster", [[0, 3], [-1, 0], [0]])
def test_clusters_are_numbered_one_a_token(cluster):
    with pytest.raises(ValueError, match=r"cluster in 0 \.\. 2"):
        cluster_sums({"x": torch.ones(2)}, torch.tensor(cluster), 3)


@pytest.mark.parametrize(
    "rows", [torch.zeros(0, 4), torch.zeros(3, 1), torch.zeros(4), torch.zeros(2, 4, dtype=torch.int64)]
)
def test_no_tokens_or_units_is_an_error(rows):
    for measure in (token_sparsity, token_gini):
        with pytest.raises(ValueError, match="nothing was measured"):
            measure(rows)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_named(bad):
    rows = torch.ones(3, 4)
    rows[1, 2] = bad
    for measure in (token_sparsity, token_gini):
        with pytest.raises(ValueError, match="1 of 3 tokens hold NaN or infinity, first token 1"):
            measure(rows)
