"""A fitted threshold gives exactly the L0 that was asked for on the rows it was fitted on, and is found without holding all pre-activations."""

import math

import pytest
import torch
from building_blocks import sae_losses_slow as slow
from tests.sae.coders import drawn, random_coder

from trialplate.sae.activation import BatchTopK
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.source import from_tensor
from trialplate.sae.threshold import fit_threshold


def one_channel(values, k=1, architecture="batchtopk"):
    """A coder whose pre-activations of the row (1) are these values, and of (c) c times them."""
    coder = Coder(CoderConfig(architecture, 1, len(values), k=k))
    with torch.no_grad():
        coder.encoder.copy_(torch.tensor(values).unsqueeze(1))
        coder.W_dec.fill_(1.0)
    return coder


def test_by_hand():
    # pre-activations 4, 2, 1 of the row 1, and 8, 4, 2 of the row 2: the two largest of six are 8 and 4 or 4, so one of two rows has to do with one
    fitted = fit_threshold(one_channel([4.0, 2.0, 1.0]), torch.tensor([[1.0], [2.0]]), k=1.5)
    assert float(fitted.threshold) == 3.0  # midway between 4 and 2: above it lie 8, 4 and 4
    assert fitted.encode(torch.tensor([[1.0], [2.0]])).active().tolist() == [1, 2]


def test_the_threshold_is_not_the_median_of_what_rows_keep():
    """The median over rows of the k-th largest pre-activation gave L0 of 80 where 32 was meant: rows differ in size, here by a factor of 100."""
    x = torch.tensor([0.010, 0.011, 0.012, 0.013, 0.014, 1.00, 1.01, 1.02, 1.03]).unsqueeze(1)
    pre = x * torch.tensor([4.0, 3.0, 2.0, 1.0])
    median = pre.max(dim=1).values.median()
    assert int((pre > median).sum()) == 16  # all of the four large rows: 16 / 9 where 1 is meant
    fitted = fit_threshold(one_channel([4.0, 3.0, 2.0, 1.0]), x)
    assert int(fitted.encode(x).active().sum()) == 9


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [0.5, 1, 4, 11.3])
def test_mean_l0_is_exactly_k_whatever_the_batches(k, batch):
    coder, x = random_coder("batchtopk"), drawn(200, 8)
    fitted = fit_threshold(coder, x, k, batch=batch)
    assert int(fitted.encode(x).active().sum()) == round(200 * k)
    low, high = slow.slow_quantile_threshold(coder.preactivations(x).tolist(), k)
    assert low <= float(fitted.threshold) < high


def test_rows_of_a_source_and_of_a_tensor_are_the_same_rows():
    coder, x = random_coder("batchtopk"), drawn(50, 8)
    one, other = fit_threshold(coder, x), fit_threshold(coder, from_tensor(x, name="x"))
    assert float(one.threshold) == float(other.threshold)
    assert math.isfinite(float(one.threshold))


def test_the_coder_given_stays_as_it_is():
    coder = random_coder("batchtopk")
    fitted = fit_threshold(coder, drawn(50, 8), 2)
    assert float(coder.threshold) == 0.5
    assert float(fitted.threshold) != 0.5
    assert torch.equal(fitted.W_dec, coder.W_dec)
    assert fitted.W_dec.data_ptr() != coder.W_dec.data_ptr()


def test_a_topk_coder_becomes_one_with_a_threshold():
    coder, x = random_coder("topk"), drawn(100, 8)
    fitted = fit_threshold(coder, x)
    assert fitted.config.architecture == "batchtopk"
    assert int(fitted.encode(x).active().sum()) == 400
    assert int(fitted.encode(x).active().max()) > 4  # a budget that is spent where it is wanted


def test_on_one_batch_the_threshold_is_the_choice_in_the_batch():
    coder, x = random_coder("batchtopk"), drawn(60, 8)
    with torch.no_grad():
        trained = BatchTopK(4)(coder.preactivations(x))
        assert torch.equal(fit_threshold(coder, x, batch=60).encode(x).dense(), trained.dense())


def test_fewer_positive_pre_activations_than_asked_for():
    fitted = fit_threshold(one_channel([1.0, -1.0, -2.0]), torch.ones(4, 1), k=2)
    assert float(fitted.threshold) == 0
    assert fitted.encode(torch.ones(4, 1)).active().tolist() == [1] * 4


def test_ties_at_the_threshold_never_give_more_than_k():
    fitted = fit_threshold(one_channel([2.0, 2.0, 1.0]), torch.ones(4, 1), k=1)
    assert fitted.encode(torch.ones(4, 1)).active().tolist() == [0] * 4


def test_neighbouring_floats_are_told_apart():
    values = [1.0, float(torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)))]
    fitted = fit_threshold(one_channel(values), torch.ones(1, 1), k=1)
    assert fitted.encode(torch.ones(1, 1)).index.tolist() == [1]


@pytest.mark.parametrize(
    ("coder", "k", "said"),
    [
        (random_coder("relu"), 2, "fitted for topk and batchtopk"),
        (random_coder("topk", signed=True), 2, "signed topk"),
        (random_coder("topk"), 0, "above 0 and at most 24"),
        (random_coder("topk"), 25, "above 0 and at most 24"),
    ],
)
def test_what_has_no_threshold(coder, k, said):
    with pytest.raises(CoderError, match=said):
        fit_threshold(coder, drawn(10, 8), k)


def test_no_rows_are_an_error():
    with pytest.raises(CoderError, match="no rows"):
        fit_threshold(random_coder("topk"), drawn(0, 8))
