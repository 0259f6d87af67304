"""Objects for SAEBench: ours compute what the coder does, and theirs are read by what they compute."""

from types import SimpleNamespace

import pytest
import torch
from tests.sae.coder_files import OUT, D, M, X, jump, largest, parts, pre
from tests.sae.coders import random_coder
from torch import nn

from trialplate.sae.errors import CoderError
from trialplate.sae.formats.saebench import for_saebench, from_saebench

K = 3


class Custom(nn.Module):
    """Somebody's own coder."""

    def __init__(self, encode, centred=True, **more):
        super().__init__()
        self.p = parts()
        for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
            setattr(self, name, nn.Parameter(self.p[name]))
        self.cfg = SimpleNamespace(hook_name="blocks.4.hook_resid_post", model_name="pythia-70m", architecture="mine")
        self.function, self.centred = encode, centred
        for name, value in more.items():
            setattr(self, name, value)

    def encode(self, x):
        return self.function(pre(self.p, x, self.centred), self)

    def decode(self, code):
        return code @ self.W_dec + self.b_dec


OBJECTS = {
    "relu": (Custom(lambda z, s: z.relu()), "relu"),
    "uncentred relu": (Custom(lambda z, s: z.relu(), centred=False), "relu"),
    "topk": (Custom(lambda z, s: largest(z, s.k).relu(), k=K), "topk"),
    "signed topk": (Custom(lambda z, s: largest(z, s.k), k=M - 2), "topk"),
    "jumprelu": (Custom(lambda z, s: jump(z, s.threshold), threshold=parts()["threshold"], centred=False), "jumprelu"),
    "one threshold": (Custom(lambda z, s: jump(z, s.threshold), threshold=0.4), "jumprelu"),
    "batchtopk": (Custom(lambda z, s: jump(z, s.threshold), threshold=torch.tensor(0.4), k=K), "batchtopk"),
    "topk with a threshold that it does not use": (
        Custom(lambda z, s: largest(z, s.k).relu(), threshold=torch.tensor(-1.0), k=torch.tensor(K)),
        "topk",
    ),
}


@pytest.mark.parametrize(("sae", "architecture"), OBJECTS.values(), ids=OBJECTS)
def test_an_object_is_read_by_what_it_computes(sae, architecture):
    coder = from_saebench(sae)
    assert coder.config.architecture == architecture
    with torch.no_grad():
        torch.testing.assert_close(coder.encode(X).dense(), sae.encode(X), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(coder(X), sae.decode(sae.encode(X)), rtol=1e-5, atol=1e-5)
    assert (coder.config.centre_input, coder.config.signed) == (
        sae.centred,
        sae.function(-torch.ones(1, M), sae).min() < 0,
    )
    assert (coder.config.site_in, coder.config.model) == ("L4.resid_post", "pythia-70m")


def test_an_object_that_computes_something_else_is_refused():
    with pytest.raises(CoderError, match="no reading of this Custom encodes as it does"):
        from_saebench(Custom(lambda z, s: z.relu() ** 2))
    with pytest.raises(CoderError, match="no reading"):
        from_saebench(Custom(lambda z, s: largest(z, K).relu(), k=K + 1))


def test_an_object_without_its_tensors_is_refused():
    sae = Custom(lambda z, s: z.relu())
    sae.W_enc = nn.Parameter(sae.W_enc.T.contiguous())
    with pytest.raises(CoderError, match=r"wanted W_enc \[6, 14\], got \[14, 6\]"):
        from_saebench(sae)
    del sae.b_dec
    with pytest.raises(CoderError, match="Custom has no tensor b_dec"):
        from_saebench(sae)


@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu", "gated"])
def test_a_coder_in_their_clothes(architecture):
    coder = random_coder(architecture, D, M, site_in="L4.resid_post", site_out="L4.resid_post")
    sae = for_saebench(coder, model_name="pythia-70m")
    x = X.reshape(5, 6, D)
    assert torch.equal(sae.encode(x), coder.encode(X).dense().reshape(5, 6, M))
    torch.testing.assert_close(sae(x), coder(X).reshape(5, 6, D))
    torch.testing.assert_close(sae.decode(sae.encode(x)), sae(x))
    assert (sae.W_enc.shape, sae.W_dec.shape, sae.b_enc.shape, sae.b_dec.shape) == ((D, M), (M, D), (M,), (D,))
    assert (sae.cfg.to_dict()["hook_name"], sae.cfg.hook_layer) == ("blocks.4.hook_resid_post", 4)
    assert (sae.cfg.dtype, sae.dtype, sae.device.type) == ("float32", torch.float32, "cpu")
    if architecture != "gated":
        assert torch.equal(from_saebench(sae).encode(X).dense(), coder.encode(X).dense())


def test_what_saebench_would_judge_wrongly_is_refused():
    with pytest.raises(CoderError, match="writes another than it reads"):
        for_saebench(random_coder("relu", D, M, d_out=OUT, centre_input=False), model_name="gpt2", hook_layer=0)
    long = random_coder("relu", D, M)
    long.W_dec[3] *= 1.5
    long.W_dec[4] = 0
    with pytest.raises(CoderError, match=r"one of these is 1 away \(1 are zero\); see .*with_unit_decoder"):
        for_saebench(long, model_name="gpt2", hook_layer=0)


def test_a_site_without_a_layer_needs_one():
    coder = random_coder("relu", D, M)
    with pytest.raises(CoderError, match="no layer is named by the hook ''"):
        for_saebench(coder, model_name="gpt2")
    assert for_saebench(coder, model_name="gpt2", hook_name="hook_embed", hook_layer=0).cfg.hook_layer == 0
