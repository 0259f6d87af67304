"""A sparse code means the same as the dense one it stands for, values and gradients."""

import pytest
import torch

from trialplate.sae.latents import Latents

# three tokens over four latents: two entries, none, one
DENSE = torch.tensor([[0.0, 2.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])


@pytest.fixture
def latents():
    return Latents.from_dense(DENSE)


def test_entries_are_those_that_are_not_zero(latents):
    assert latents.starts.tolist() == [0, 2, 2, 3]
    assert latents.index.tolist() == [1, 3, 0]
    assert latents.value.tolist() == [2.0, -1.0, 3.0]
    assert latents.rows.tolist() == [0, 0, 2]
    assert torch.equal(latents.dense(), DENSE)


def test_a_negative_latent_is_active_and_a_kept_zero_is_not():
    kept = Latents.from_rectangle(torch.tensor([[0, 3], [1, 2]]), torch.tensor([[0.0, -1.0], [5.0, 0.0]]), 4)
    assert kept.active().tolist() == [1, 1]
    assert kept.firings().tolist() == [0, 1, 0, 1]
    assert kept.sums().tolist() == [0.0, 5.0, 0.0, -1.0]


def test_firings_and_sums_count_tokens(latents):
    assert latents.active().tolist() == [2, 0, 1]
    assert latents.firings().tolist() == [1, 1, 0, 1]
    assert latents.sums().tolist() == [3.0, 2.0, 0.0, -1.0]


def test_times_is_the_product_with_the_dense_code(latents):
    dictionary = torch.arange(8.0).reshape(4, 2)
    assert torch.equal(latents.times(dictionary), DENSE @ dictionary)


def test_gradients_of_the_product_are_those_of_the_dense_product():
    value = torch.tensor([2.0, -1.0, 3.0], requires_grad=True)
    dictionary = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sparse = Latents(torch.tensor([0, 2, 2, 3]), torch.tensor([1, 3, 0]), value, 4)
    sparse.times(dictionary).pow(2).sum().backward()
    code = DENSE.clone().requires_grad_()
    twin = dictionary.detach().clone().requires_grad_()
    (code @ twin).pow(2).sum().backward()
    torch.testing.assert_close(dictionary.grad, twin.grad)
    torch.testing.assert_close(value.grad, code.grad[[0, 0, 2], [1, 3, 0]])


def test_no_entry_at_all_gives_rows_of_zeros_and_keeps_the_graph():
    nothing = Latents.from_dense(torch.zeros(2, 3))
    assert torch.equal(nothing.times(torch.ones(3, 4)), torch.zeros(2, 4))
    dictionary = torch.ones(3, 4, requires_grad=True)
    nothing.times(dictionary).sum().backward()
    assert torch.equal(dictionary.grad, torch.zeros(3, 4))
    assert nothing.active().tolist() == [0, 0]
    assert nothing.firings().tolist() == [0, 0, 0]


def test_columns_of_some_latents(latents):
    assert torch.equal(latents.at(torch.tensor([3, 1])), DENSE[:, [3, 1]])


def test_scaling_moves_values_only(latents):
    assert torch.equal(latents.scaled(0.5).dense(), DENSE * 0.5)
    assert len(latents) == 3


@pytest.mark.parametrize("wrong", [[1, 1], [-1], [4]])
def test_columns_that_are_not_there_are_refused(latents, wrong):
    with pytest.raises(ValueError, match="different latents from 0 to 3"):
        latents.at(torch.tensor(wrong))
