"""Every architecture computes what its formula says, on numbers worked out by hand."""

import math

import pytest
import torch

from trialplate.sae.activation import BatchTopK, Threshold, TopK, slices
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError

PRE = torch.tensor([[3.0, -1.0, 2.0, 0.5], [-4.0, -3.0, -2.0, 1.0]])


def coder_of(architecture, d_sae=4, **more):
    """A coder of two channels whose pre-activations of (1, 0) are 3, -1, 2, 0.5 and of (0, 1) are -4, -3, -2, 1."""
    coder = Coder(CoderConfig(architecture, 2, d_sae, **more))
    with torch.no_grad():
        coder.encoder.copy_(PRE.T)
        coder.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]]))
    return coder


def code(coder, x=((1.0, 0.0), (0.0, 1.0))):
    with torch.no_grad():
        return coder.encode(torch.tensor(x)).dense().tolist()


def test_relu():
    assert code(coder_of("relu")) == [[3.0, 0.0, 2.0, 0.5], [0.0, 0.0, 0.0, 1.0]]


def test_topk_keeps_the_largest_and_drops_negative_ones():
    assert code(coder_of("topk", k=2)) == [[3.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def test_signed_topk_keeps_negative_ones():
    assert code(coder_of("topk", k=2, signed=True)) == [[3.0, 0.0, 2.0, 0.0], [0.0, 0.0, -2.0, 1.0]]


def test_jumprelu_is_strictly_above_its_threshold():
    coder = coder_of("jumprelu")
    with torch.no_grad():
        coder.threshold.copy_(torch.tensor([1.0, 0.0, 2.0, 0.75]))
    assert code(coder) == [[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def test_a_threshold_below_zero_lets_no_negative_latent_through():
    assert Threshold(torch.tensor(-2.5))(PRE).dense().tolist() == [[3.0, 0.0, 2.0, 0.5], [0.0, 0.0, 0.0, 1.0]]


def test_batchtopk_chooses_among_all_tokens_of_a_batch():
    # 2 tokens x k 1: the two largest of eight are 3 and 2, both of the first token
    assert BatchTopK(1)(PRE).dense().tolist() == [[3.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_batchtopk_refuses_to_encode_before_its_threshold_is_fitted():
    coder = coder_of("batchtopk", k=1)
    with pytest.raises(CoderError, match="no threshold yet"):
        coder.encode(torch.eye(2))
    coder.threshold.fill_(1.5)
    assert code(coder) == [[3.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_gated_separates_whether_from_how_much():
    coder = coder_of("gated")
    with torch.no_grad():
        coder.b_gate.copy_(torch.tensor([-2.5, 2.0, -2.5, 0.0]))  # gates of (1, 0): .5, 1, -.5, .5
        coder.r_mag.copy_(torch.tensor([math.log(2.0), 0.0, 0.0, 0.0]))
        coder.b_mag.copy_(torch.tensor([1.0, 0.0, 0.0, -1.0]))  # magnitudes of (1, 0): 2*3+1, -1, 2, -.5
    assert code(coder, [[1.0, 0.0]])[0] == pytest.approx([7.0, 0.0, 0.0, 0.0])


def test_routed_takes_topk_within_the_slice_of_its_router():
    coder = coder_of("routed", k=1, n_experts=2)
    with torch.no_grad():
        coder.router.copy_(
            torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        )  # (1, 0) goes to the second slice, (0, 1) to the first
    assert code(coder) == [[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]  # the best of the first slice is negative


def test_slices_give_the_remainder_to_the_first():
    assert slices(10, 4).tolist() == [0, 3, 6, 8, 10]


def test_b_dec_is_subtracted_before_and_added_after():
    coder = coder_of("relu")
    with torch.no_grad():
        coder.b_dec.copy_(torch.tensor([1.0, 0.0]))
    assert code(coder, [[2.0, 0.0]]) == [[3.0, 0.0, 2.0, 0.5]]
    # 3 (1, 0) + 2 (.6, .8) + .5 (.8, -.6) + (1, 0)
    assert coder(torch.tensor([[2.0, 0.0]])).tolist()[0] == pytest.approx([5.6, 1.3])


def test_a_coder_that_does_not_centre_its_input_sees_it_whole():
    coder = coder_of("relu", centre_input=False)
    with torch.no_grad():
        coder.b_dec.copy_(torch.tensor([1.0, 0.0]))
    assert code(coder, [[1.0, 0.0]]) == [[3.0, 0.0, 2.0, 0.5]]


def test_a_skip_transcoder_needs_its_input_to_decode():
    coder = Coder(CoderConfig("relu", 2, 4, d_out=3, centre_input=False, skip=True))
    with torch.no_grad():
        coder.W_skip.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    x = torch.tensor([[2.0, 5.0]])
    assert coder(x).tolist() == [[2.0, 5.0, 7.0]]
    with pytest.raises(CoderError, match="decode\\(latents, x\\)"):
        coder.decode(coder.encode(x))


def test_another_width_is_refused_with_both_numbers():
    with pytest.raises(CoderError, match=r"\[n, 2\], got \[3, 5\]"):
        coder_of("relu").encode(torch.zeros(3, 5))


def test_w_enc_is_a_view_of_the_encoder():
    coder = coder_of("relu")
    assert coder.W_enc.shape == (2, 4)
    assert coder.W_enc.data_ptr() == coder.encoder.data_ptr()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"architecture": "topk"}, "k for topk"),
        ({"architecture": "relu", "k": 3}, "k for topk"),
        ({"architecture": "topk", "k": 9}, "k between 1 and d_sae"),
        ({"architecture": "tok"}, "an architecture of relu"),
        ({"architecture": "relu", "signed": True}, "signed for topk only"),
        ({"architecture": "routed", "k": 2}, "n_experts for routed"),
        ({"architecture": "routed", "k": 3, "n_experts": 4}, "at least k latents each"),
        ({"architecture": "relu", "prefixes": (4, 4)}, "prefixes that rise"),
        ({"architecture": "relu", "prefixes": (8,)}, "prefixes that rise"),
        ({"architecture": "relu", "d_out": 3}, "an input of d_out channels"),
        ({"architecture": "relu", "d_in": 0}, "positive sizes"),
    ],
)
def test_what_cannot_be_is_refused(wrong, says):
    with pytest.raises(CoderError, match=says):
        CoderConfig(**{"d_in": 4, "d_sae": 8, **wrong})


def test_initial_decoder_rows_are_unit_and_the_encoder_is_their_transpose():
    coder = initialise(Coder(CoderConfig("jumprelu", 6, 20)), torch.Generator().manual_seed(3), mean=torch.ones(6))
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(20))
    assert torch.equal(coder.encoder, coder.W_dec)
    assert coder.b_dec.tolist() == [1.0] * 6
    assert coder.threshold.tolist() == pytest.approx([0.001] * 20)


def test_initialising_draws_from_its_generator_alone():
    def weights(seed):
        return initialise(Coder(CoderConfig("topk", 6, 20, k=2)), torch.Generator().manual_seed(seed)).W_dec

    torch.manual_seed(0)
    first = weights(1)
    torch.manual_seed(5)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_topk_has_the_gradient_of_what_it_kept():
    pre = PRE.clone().requires_grad_()
    TopK(2)(pre).value.sum().backward()
    assert pre.grad.tolist() == [[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu", "gated", "routed"])
def test_nan_is_not_taken_for_silence(architecture):
    more = {"k": 1} if architecture in ("topk", "batchtopk", "routed") else {}
    coder = coder_of(architecture, **more, **({"n_experts": 2} if architecture == "routed" else {}))
    if architecture == "batchtopk":
        coder.threshold.fill_(0.5)
    assert bool(torch.isnan(coder(torch.tensor([[torch.nan, 0.0], [1.0, 0.0]]))[0]).any())


def test_a_transcoder_has_encoder_rows_of_its_own():
    config = CoderConfig("topk", 6, 20, k=2, centre_input=False, site_in="L0.mlp_in", site_out="L0.mlp_out")
    coder = initialise(Coder(config), torch.Generator().manual_seed(3))
    assert not torch.equal(coder.encoder, coder.W_dec)
    torch.testing.assert_close(coder.encoder.norm(dim=1), torch.ones(20))


def test_a_description_that_cannot_be_names_what_the_rule_is_about():
    with pytest.raises(CoderError, match=r"wanted k between 1 and d_sae; got k=17, d_sae=16$"):
        CoderConfig("topk", d_in=8, d_sae=16, k=17)
    with pytest.raises(CoderError, match=r"\(is it jumprelu\?\); got architecture='jumprelo'$"):
        CoderConfig("jumprelo", d_in=8, d_sae=16)
