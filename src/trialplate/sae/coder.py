"""One module for every coder: an encoder, an activation object, a decoder. Symbols: x [n, d_in] activations, f latents, m = d_sae of them, y [n, d_out].

    pre = W_enc^T (x - b_dec) + b_enc        f = activation(pre)        y = f W_dec + b_dec (+ W_skip x)

Both matrices are held with one row a latent (`encoder` [m, d_in], `W_dec` [m, d_out]): what training and reading latents touch is then contiguous.
`W_enc` [d_in, m], as papers and files have it, is a view. What is computed here is the function at inference; training asks `training_activation`."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trialplate.sae.activation import Activation, BatchTopK, Relu, Routed, Threshold, TopK, slices
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.latents import Latents


class Coder(nn.Module):
    """A sparse autoencoder or transcoder. Parameters are float32 unless moved; zeros until `initialise` or a file fills them.

    encoder [m, d_in], b_enc [m] (not for gated), W_dec [m, d_out], b_dec [d_out];
    jumprelu: threshold [m]; batchtopk: threshold [], a buffer, NaN until it was fitted; gated: b_gate, b_mag, r_mag [m];
    routed: router [n_experts, d_in], b_router [n_experts]; skip: W_skip [d_out, d_in]."""

    def __init__(self, config: CoderConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.encoder = _zeros(c.d_sae, c.d_in)
        self.W_dec, self.b_dec = _zeros(c.d_sae, c.d_out), _zeros(c.d_out)
        if c.architecture == "gated":
            self.b_gate, self.b_mag, self.r_mag = _zeros(c.d_sae), _zeros(c.d_sae), _zeros(c.d_sae)
        else:
            self.b_enc = _zeros(c.d_sae)
        if c.architecture == "jumprelu":
            self.threshold = _zeros(c.d_sae)
        if c.architecture == "batchtopk":
            self.register_buffer("threshold", torch.tensor(torch.nan))
        if c.n_experts is not None:
            self.router, self.b_router = _zeros(c.n_experts, c.d_in), _zeros(c.n_experts)
        if c.skip:
            self.W_skip = _zeros(c.d_out, c.d_in)

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"]:
        """The encoder as papers write it; a view."""
        return self.encoder.T

    def centred(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """What the encoder's matrix sees of x."""
        return x - self.b_dec if self.config.centre_input else x

    def preactivations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """pre, what the activation chooses among; for gated coders the gate's, W_enc^T x + b_gate."""
        bias = self.b_gate if self.config.architecture == "gated" else self.b_enc
        return torch.addmm(bias, self.centred(x), self.encoder.T)

    def routes(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n n_experts"]:
        """Logits of the router of a routed coder."""
        if self.config.n_experts is None:
            raise CoderError(f"a {self.config.architecture} coder has no router")
        return torch.addmm(self.b_router, self.centred(x), self.router.T)

    def activation(self, x: Float[Tensor, "n d_in"]) -> Activation:
        """The activation at inference. CoderError for a batchtopk coder whose threshold was never fitted."""
        c = self.config
        if c.architecture == "topk":
            return TopK(_k(c), c.signed)
        if c.architecture == "batchtopk":
            if math.isnan(float(self.threshold)):
                raise CoderError(
                    "this batchtopk coder has no threshold yet, and without one its code of a token would depend on the other tokens of its batch; "
                    "fit one with trialplate.sae.threshold.fit_threshold"
                )
            return Threshold(self.threshold)
        if c.architecture == "jumprelu":
            return Threshold(self.threshold)
        if c.n_experts is not None:
            bounds = slices(c.d_sae, c.n_experts).to(x.device)
            return Routed(_k(c), bounds, self.routes(x).argmax(1))
        return Relu()

    def training_activation(self, x: Float[Tensor, "n d_in"]) -> Activation:
        """The activation in training: batchtopk chooses in the batch, all others are as at inference."""
        return BatchTopK(_k(self.config)) if self.config.architecture == "batchtopk" else self.activation(x)

    def encode(self, x: Float[Tensor, "n d_in"]) -> Latents:
        """The latents of n activations, as at inference. CoderError for a width other than d_in."""
        if x.ndim != 2 or x.shape[1] != self.config.d_in:
            raise CoderError(
                f"wanted activations [n, {self.config.d_in}], got {list(x.shape)}; this coder reads {self.config.site_in or 'that width'}"
            )
        if self.config.architecture == "gated":
            return self._gated(x)
        return self.activation(x)(self.preactivations(x))

    def decode(self, latents: Latents, x: Float[Tensor, "n d_in"] | None = None) -> Float[Tensor, "n d_out"]:
        """y of latents; a skip transcoder needs its input too."""
        y = latents.times(self.W_dec) + self.b_dec
        if not self.config.skip:
            return y
        if x is None:
            raise CoderError("a skip transcoder writes W_skip x beside its latents: decode(latents, x)")
        return y + x @ self.W_skip.T

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """What the coder makes of x: its reconstruction, or a transcoder's prediction."""
        return self.decode(self.encode(x), x)

    def _gated(self, x: Tensor) -> Latents:
        """Gate and magnitude share one product: pre_mag = e^r_mag (pre - b_gate) + b_mag."""
        gate = self.preactivations(x)
        magnitude = (torch.exp(self.r_mag) * (gate - self.b_gate) + self.b_mag).relu()
        return Latents.from_dense(magnitude * (gate > 0))


@torch.no_grad()
def initialise(
    coder: Coder, generator: torch.Generator, *, mean: Float[Tensor, " d_out"] | None = None, threshold: float = 0.001
) -> Coder:
    """Weights before training, all from one generator: decoder rows uniform on the unit sphere, the encoder their transpose (for a transcoder: its own rows),
    biases zero, b_dec the mean of the activations where it is given, routers small, jumprelu thresholds at `threshold`. Returns the coder."""
    c = coder.config
    coder.W_dec.copy_(_unit_rows(c.d_sae, c.d_out, generator))
    coder.encoder.copy_(_unit_rows(c.d_sae, c.d_in, generator) if c.is_transcoder else coder.W_dec)
    if mean is not None:
        coder.b_dec.copy_(mean)
    if c.architecture == "jumprelu":
        coder.threshold.fill_(threshold)
    if c.n_experts is not None:
        coder.router.copy_(torch.randn(coder.router.shape, generator=generator) / math.sqrt(c.d_in))
    return coder


def _unit_rows(n: int, d: int, generator: torch.Generator) -> Tensor:
    rows = torch.randn(n, d, generator=generator)
    return rows / rows.norm(dim=1, keepdim=True)


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def _k(config: CoderConfig) -> int:
    if config.k is None:
        raise CoderError(f"a {config.architecture} coder has no k")
    return config.k
