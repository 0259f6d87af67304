"""Changes of parameters that leave the function as it is, or compose it with a linear map of its input; every one returns a new coder.

Symbols: E encoder [m, d_in], e its bias [m], W = W_dec [m, d_out], b = b_dec, t thresholds [m], n_j = ||W_j||, f latents.

    rescaled         E_j, e_j, t_j -> a_j times them, W_j -> W_j / a_j      f_j -> a_j f_j; y stays
    scaled           E -> s E, W, b -> / r                                  reads s x for x, writes y / r: f of x is what it was of s x
    whitened         reads (x - mean) M, writes y M^-1 + mean
    input_centred    E -> E C, C = I - 1 1^T / d_in                         reads x minus its mean over channels
    not_centring     e -> e - E b, b no longer taken off the input          f and y stay

Scaling a latent is allowed where the activation lets the scale through: relu, jumprelu and gated do, a threshold going along; a choice of the k
largest does not, unless all scales are equal."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError

_BIASES = ("b_enc", "b_gate", "b_mag", "threshold")


def with_unit_decoder(coder: Coder) -> Coder:
    """The same function with every decoder row of norm 1; encoder rows, biases and thresholds take the norms, and so do the latents: f_j -> n_j f_j.

    Rows that are zero stay as they are: their latents write nothing, whatever they read. A batchtopk coder's one threshold becomes one a latent, so
    what comes back is a jumprelu coder. CoderError for a batchtopk coder without a threshold, and for topk and routed coders whose norms differ by
    more than 1e-4 of their mean: which latents are the k largest would change."""
    norms = coder.W_dec.detach().norm(dim=1)
    live = norms > 0
    if coder.config.architecture in ("topk", "routed") and bool(live.any()):
        low, high, mean = (float(f(norms[live])) for f in (torch.min, torch.max, torch.mean))
        if not high - low <= 1e-4 * mean:
            raise CoderError(
                f"the decoder rows of this {coder.config.architecture} coder have norms from {low:.6g} to {high:.6g}; "
                "rescaling them would change which latents are the k largest, so the function would not be the same"
            )
        return rescaled(coder, torch.where(live, norms, norms[live].mean()))
    if coder.config.architecture == "batchtopk" and bool(coder.threshold.isnan()):
        raise CoderError(
            "this batchtopk coder has no threshold yet; fit one with trialplate.sae.threshold.fit_threshold"
        )
    return rescaled(coder, torch.where(live, norms, torch.ones_like(norms)))


@torch.no_grad()
def rescaled(coder: Coder, factor: Float[Tensor, " d_sae"]) -> Coder:
    """Latent j counted in units 1 / factor_j. A factor of 0 silences its latent, whose row must be zero then.

    The k largest are afterwards chosen among the rescaled pre-activations. CoderError for factors that are negative or not finite, and for a 0 that
    would remove what a latent writes."""
    if not bool((factor.isfinite() & (factor >= 0)).all()):
        raise CoderError("latents are rescaled by finite factors that are not negative")
    if bool(((factor == 0) & (coder.W_dec != 0).any(1)).any()):
        raise CoderError("a factor of 0 would remove a latent that writes something")
    new = _as_jumprelu(coder) if coder.config.architecture == "batchtopk" else _copy(coder)
    new.encoder.mul_(factor.unsqueeze(1))
    new.W_dec.div_(torch.where(factor == 0, 1, factor).unsqueeze(1))
    for name in _BIASES:
        if getattr(new, name, None) is not None and getattr(new, name).ndim == 1:
            getattr(new, name).mul_(factor)
    return new


@torch.no_grad()
def scaled(coder: Coder, s: float, r: float | None = None) -> Coder:
    """A coder that reads x where the given one reads s x, with the same latents, and writes y / r; r = s where it is not given.

    CoderError for factors that are not positive numbers."""
    r = s if r is None else r
    if not (0 < s < float("inf") and 0 < r < float("inf")):
        raise CoderError(f"wanted positive factors, got {s} and {r}")
    new = _copy(coder) if s == r else not_centring(coder)
    new.encoder.mul_(s)
    new.W_dec.div_(r)
    new.b_dec.div_(r)
    if new.config.n_experts is not None:
        new.router.mul_(s)
    if new.config.skip:
        new.W_skip.mul_(s / r)
    return new


@torch.no_grad()
def whitened(
    coder: Coder,
    mean: Float[Tensor, " d_in"],
    matrix: Float[Tensor, "d_in d_in"],
    inverse: Float[Tensor, "d_in d_in"],
) -> Coder:
    """A coder that reads x where the given one reads z = (x - mean) M, with the same latents, and writes y M^-1 + mean. Autoencoders only."""
    if coder.config.is_transcoder:
        raise CoderError("whitening is undone on the output too, and a transcoder writes another space than it reads")
    new = not_centring(coder)
    encoder = new.encoder.double() @ matrix.double().T
    shift = encoder @ mean.double()
    _shift_biases(new, -shift)
    new.encoder.copy_(encoder)
    new.W_dec.copy_(new.W_dec.double() @ inverse.double())
    new.b_dec.copy_(new.b_dec.double() @ inverse.double() + mean.double())
    return new


@torch.no_grad()
def input_centred(coder: Coder) -> Coder:
    """A coder that reads x where the given one reads x minus its mean over channels; what it writes stays as it is.

    With b taken off the input, E C (x - b) = E C x - E b + E (b - C b): the bias takes the difference."""
    new = _copy(coder)
    mean = new.encoder.mean(1, keepdim=True)
    if new.config.centre_input:
        _shift_biases(new, -(new.encoder.sum(1) * new.b_dec.mean()))
    new.encoder.sub_(mean)
    if new.config.n_experts is not None:
        raise CoderError("the router of a routed coder would have to be centred too; no known file has one")
    if new.config.skip:
        new.W_skip.sub_(new.W_skip.mean(1, keepdim=True))
    return new


@torch.no_grad()
def not_centring(coder: Coder) -> Coder:
    """The same function without b_dec being taken off the input: the bias takes it, e - E b. A copy where nothing is taken off."""
    new = _copy(coder)
    if not coder.config.centre_input:
        return new
    new.config = coder.config.with_(centre_input=False)
    shift = new.encoder.double() @ new.b_dec.double()
    _shift_biases(new, -shift)
    if new.config.n_experts is not None:
        new.b_router.copy_(new.b_router.double() - new.router.double() @ new.b_dec.double())
    return new


def _copy(coder: Coder) -> Coder:
    return copy.deepcopy(coder).eval().requires_grad_(False)


def _shift_biases(coder: Coder, shift: Tensor) -> None:
    """Add E z to every bias that stands beside E x; a gated coder's magnitudes see it through e^r_mag."""
    if coder.config.architecture == "gated":
        coder.b_gate.copy_(coder.b_gate.double() + shift)
        coder.b_mag.copy_(coder.b_mag.double() + shift * coder.r_mag.double().exp())
    else:
        coder.b_enc.copy_(coder.b_enc.double() + shift)


def _as_jumprelu(coder: Coder) -> Coder:
    """A batchtopk coder as it is at inference, its threshold repeated for every latent; a copy where it has none yet."""
    if bool(coder.threshold.isnan()):
        return _copy(coder)
    new = Coder(coder.config.with_(architecture="jumprelu", k=None)).to(coder.W_dec).eval().requires_grad_(False)
    for name, tensor in coder.state_dict().items():
        new.state_dict()[name].copy_(tensor)  # the one threshold spreads over all
    return new
