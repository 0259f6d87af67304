"""Collectors against the plain form, on one stream cut in different ways."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.clusters import ClusterSums
from trialplate.activations.collectors.covariance import Covariance
from trialplate.activations.collectors.firing import FiringBits
from trialplate.activations.collectors.keyed import token_keys
from trialplate.activations.collectors.magnitudes import Magnitudes
from trialplate.activations.collectors.moments import UnitMoments
from trialplate.activations.collectors.sample import RowSample

N_TEXTS, LENGTH, WIDTH = 40, 12, 7


@pytest.fixture(scope="module")
def stream():
    """[text, position, unit]; the first position is far from all others, the mean of a unit far from 0."""
    values = (
        torch.randn(N_TEXTS, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0)) + torch.arange(WIDTH) * 100.0
    )
    values[:, 0] *= 50
    values[:, :, 1] = -values[:, :, 1]
    return values


def feed(stream, collector, size, texts=range(N_TEXTS)):
    """Hand texts of the stream to a collector in batches of `size`."""
    for begin in range(texts.start, texts.stop, size):
        part = stream[begin : begin + size]
        rows, columns = torch.meshgrid(torch.arange(begin, begin + len(part)), torch.arange(LENGTH), indexing="ij")
        order = torch.cat([columns.flatten().eq(0).nonzero(), columns.flatten().ne(0).nonzero()]).squeeze(1)
        document, position = rows.flatten()[order], columns.flatten()[order]
        tokens = Tokens(order, document, document // 4, position, document * 1000 + position, len(part))
        collector.update(part.flatten(0, 1)[order], tokens)
    return collector


CUTS = (1, 7, N_TEXTS)


@pytest.mark.parametrize("positions", ["all", "no_first"])
@pytest.mark.parametrize("size", CUTS)
def test_moments_are_those_of_the_whole_stream(stream, size, positions):
    found = feed(stream, UnitMoments(order=4), size).result(positions)
    rows = stream[:, 0 if positions == "all" else 1 :].reshape(-1, WIDTH).double().numpy()
    centred = rows - rows.mean(0)
    assert found.n == len(rows)
    np.testing.assert_array_equal(found.fires, (rows > 0).sum(0))
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.abs_sum, np.abs(rows).sum(0), rtol=1e-6)
    np.testing.assert_allclose(found.square_sum, (rows**2).sum(0), rtol=1e-6)
    for power, sums in ((2, found.m2), (3, found.m3), (4, found.m4)):
        np.testing.assert_allclose(
            sums, (centred**power).sum(0), rtol=2e-5, atol=1e-5 * np.abs(centred**power).sum(0).max()
        )
    assert found.rate == pytest.approx((rows > 0).mean(0))


def test_moments_do_not_lose_a_small_spread_on_a_large_mean():
    """The difference of mean squares would be wrong by more than it says; sums centred on the batch are not."""
    rows = 4096 + 0.01 * torch.randn(5000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows32 = rows.float()
    found = UnitMoments()
    for part in rows32.split(700):
        n = len(part)
        found.update(part, Tokens(*(torch.arange(n),) * 5, 0))
    wanted = rows32.double().var(0, unbiased=False).numpy()
    np.testing.assert_allclose(found.result("all").m2 / 5000, wanted, rtol=1e-2)
    naive = ((rows32**2).mean(0) - rows32.mean(0) ** 2).numpy()
    assert np.abs(naive / wanted - 1).max() > 10


@pytest.mark.parametrize("skip_first", [False, True])
@pytest.mark.parametrize("size", CUTS)
def test_cluster_sums_are_those_of_their_texts(stream, size, skip_first):
    table = feed(stream, ClusterSums(10, ("fires", "abs", "square"), skip_first=skip_first), size).result()
    rows = stream[:, 1 if skip_first else 0 :].reshape(10, -1, WIDTH).double().numpy()
    np.testing.assert_array_equal(table.tokens, [rows.shape[1]] * 10)
    np.testing.assert_array_equal(table.fires, (rows > 0).sum(1))
    np.testing.assert_allclose(table.abs, np.abs(rows).sum(1), rtol=1e-5)
    np.testing.assert_allclose(table.square, (rows**2).sum(1), rtol=1e-5)


def test_clusters_without_tokens_are_left_out(stream):
    assert feed(stream, ClusterSums(13), 7).result().fires.shape == (10, WIDTH)


@pytest.mark.parametrize("size", CUTS)
def test_a_sample_does_not_depend_on_how_the_stream_is_cut(stream, size):
    found = feed(stream, RowSample(50, seed=3, skip_first=True), size).result()
    whole = feed(stream, RowSample(50, seed=3, skip_first=True), N_TEXTS).result()
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_array_equal(found.token, found.document * 1000 + found.position)
    np.testing.assert_array_equal(found.values, stream[found.document, found.position].numpy())
    assert len({*zip(found.document, found.position, strict=True)}) == 50
    assert found.position.min() >= 1


def test_another_seed_is_another_sample_and_a_large_one_is_everything(stream):
    one, two = (feed(stream, RowSample(50, seed), 7).result() for seed in (1, 2))
    assert not np.array_equal(one.token, two.token)
    everything = feed(stream, RowSample(10_000, 1), 7).result()
    np.testing.assert_array_equal(everything.values, stream.reshape(-1, WIDTH).numpy())


def test_every_token_is_as_likely_as_any_other():
    document, position = torch.arange(200).repeat_interleave(50), torch.arange(50).repeat(200)
    chosen = np.zeros(10_000)
    for seed in range(300):
        chosen[np.argpartition(token_keys(document, position, seed), 999)[:1000]] += 1
    by_position, by_document = chosen.reshape(200, 50).sum(0), chosen.reshape(200, 50).sum(1)
    for counts in (by_position, by_document):
        assert chisquare(counts).pvalue > 1e-3
    assert len(np.unique(token_keys(document, position, 0))) == 10_000


@pytest.mark.parametrize("size", CUTS)
def test_firing_patterns_are_whole_texts_in_order(stream, size):
    found = feed(stream, FiringBits(), size).result()
    np.testing.assert_array_equal(found.fires, (stream > 0).reshape(-1, WIDTH).numpy())
    np.testing.assert_array_equal(found.document, np.repeat(np.arange(N_TEXTS), LENGTH))
    np.testing.assert_array_equal(found.position, np.tile(np.arange(LENGTH), N_TEXTS))
    some = feed(stream, FiringBits(max_tokens=5 * LENGTH + 3), size).result()
    np.testing.assert_array_equal(some.fires, found.fires[: 5 * LENGTH])


@pytest.mark.parametrize("size", CUTS)
def test_covariance_is_that_of_the_whole_stream(stream, size):
    found = feed(stream, Covariance(skip_first=True), size).result()
    rows = stream[:, 1:].reshape(-1, WIDTH).double().numpy()
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(rows.T), rtol=1e-4, atol=1e-4)


def test_magnitudes_count_every_entry_once(stream):
    counts = [feed(stream, Magnitudes(), size).result() for size in CUTS]
    assert counts[0].sum() == stream.numel()
    for other in counts[1:]:
        np.testing.assert_array_equal(counts[0], other)


MAKERS = (
    lambda: UnitMoments(order=4),
    lambda: UnitMoments(),
    lambda: ClusterSums(10, ("fires", "square")),
    lambda: RowSample(20, 5),
    FiringBits,
    Covariance,
    Magnitudes,
)


@pytest.mark.parametrize("make", MAKERS)
def test_a_state_goes_on_as_if_nothing_had_happened(stream, make):
    whole = feed(stream, make(), 8)
    first, second = feed(stream, make(), 8, range(16)), make()
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    feed(stream, second, 8, range(16, N_TEXTS))
    for name, tensor in whole.state().items():
        torch.testing.assert_close(second.state()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_seen_is_an_error_and_not_a_zero(make):
    with pytest.raises(ValueError, match=r"no tokens were seen|no text was kept"):
        make().result()
