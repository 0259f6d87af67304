"""Edits of a code change the latents that they name, and nothing else."""

import pytest
import torch

from trialplate.sae.edits import ablate, add, hold, scale
from trialplate.sae.errors import CoderError
from trialplate.sae.latents import Latents

CODE = torch.tensor([[0.0, 2.0, 0.0, -1.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("edit", "column"),
    [
        (ablate([1]), [0.0, 0.0, 0.0]),
        (scale([1], -2.0), [-4.0, 0.0, 0.0]),
        (hold([1], 5.0), [5.0, 5.0, 5.0]),
        (add([1], 0.5), [2.5, 0.5, 0.5]),
    ],
)
def test_one_latent(edit, column):
    wanted = CODE.clone()
    wanted[:, 1] = torch.tensor(column)
    assert torch.equal(edit(Latents.from_dense(CODE)).dense(), wanted)


def test_several_latents_in_any_order():
    wanted = CODE.clone()
    wanted[:, [3, 0]] = 7
    code = hold([3, 0], 7.0)(Latents.from_dense(CODE))
    assert torch.equal(code.dense(), wanted)
    assert code.active().tolist() == [3, 2, 2]
    dictionary = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(code.times(dictionary), wanted @ dictionary, atol=1e-6)


def test_a_code_without_entries_can_be_raised():
    nothing = Latents.from_dense(torch.zeros(2, 4))
    assert add([2], 1.0)(nothing).dense().tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]
    assert ablate([2])(nothing).dense().tolist() == [[0] * 4] * 2


def test_an_ablated_latent_is_zero_even_if_it_was_infinite():
    code = Latents.from_dense(torch.tensor([[float("inf"), 1.0]]))
    assert ablate([0])(code).dense().tolist() == [[0, 1]]


@pytest.mark.parametrize("latents", [[], [4], [-1], [1, 1]])
def test_latents_that_are_not_there(latents):
    for edit in (ablate(latents), hold(latents, 1.0), add(latents, 1.0)):
        with pytest.raises(CoderError, match=r"wanted latents of 0 \.\. 3, at least one and each once"):
            edit(Latents.from_dense(CODE))
