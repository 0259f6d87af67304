"""Loss terms of one batch, each a function of tensors, and what a step of training is told and gives back.

Symbols: n tokens, m latents, x [n, d_in] read, y [n, d_out] wanted (x itself for an autoencoder), y' made, f latents, d_j decoder rows.

    loss = E ||y' - y||^2  +  l1 E sum_j |f_j| ||d_j||  +  l0 E ||f||_0  +  aux term  +  prefix term  +  multi term  +  balance term

E is the mean over the tokens of a batch; errors are summed over channels. Coefficients are those of this very step: whoever steps has applied
warm-ups. Every term has a slow twin in building_blocks/sae_losses_slow.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trialplate.sae.latents import Latents

MULTI = 4
"""How many times k latents the multi term keeps (Multi-TopK of Gao et al. 2024)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of one step beside the reconstruction; a coefficient of 0 leaves its term out.

    k               active latents a token now (annealing); None: as the coder's config says
    l1              coefficient of sum_j |f_j| ||d_j||
    l0              coefficient of the number of active latents, differentiable in jumprelu's thresholds only
    bandwidth       full width of the window around a threshold in which pre-activations count for its gradient
    aux, aux_k      coefficient of the reconstruction of the residual by the aux_k strongest dead latents
    dead            which latents are dead [m]; None: none is
    prefix_weight   coefficient of the mean reconstruction loss of the config's prefixes
    multi           coefficient of the reconstruction loss with MULTI k latents, for topk and batchtopk
    router_balance  coefficient of the load balance of a router"""

    k: int | None = None
    l1: float = 0.0
    l0: float = 0.0
    bandwidth: float = 1e-3
    aux: float = 0.0
    aux_k: int = 1
    dead: Bool[Tensor, " d_sae"] | None = None
    prefix_weight: float = 0.0
    multi: float = 0.0
    router_balance: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step gave; nothing here needs a gradient any more.

    loss      the sum of all parts, a scalar
    parts     each term times its coefficient: "mse" always; "l1", "l0", "aux", "prefix", "multi", "balance" where asked for
    latents   the code of the batch
    y_hat     [n, d_out], the reconstruction by the whole dictionary"""

    loss: Tensor
    latents: Latents
    y_hat: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def reconstruction(y_hat: Float[Tensor, "n d_out"], y: Float[Tensor, "n d_out"]) -> Float[Tensor, ""]:
    """E ||y' - y||^2: mean over tokens of the squared error summed over channels."""
    return (y_hat - y).square().sum(1).mean()


def l1(f: Float[Tensor, "n d_sae"], dictionary: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, ""]:
    """E sum_j |f_j| ||d_j||. With the norms in it a coder gains nothing from small latents and long rows (Conerly et al. 2024, "Update on how we
    train SAEs", Anthropic)."""
    return (f.abs() @ dictionary.norm(dim=1)).mean()


def aux(
    pre: Float[Tensor, "n d_sae"],
    dictionary: Float[Tensor, "d_sae d_out"],
    error: Float[Tensor, "n d_out"],
    dead: Bool[Tensor, " d_sae"] | None,
    k: int,
) -> Float[Tensor, ""]:
    """||e' - e||^2 / ||e - mean e||^2, sums over the batch: how badly the dead latents explain the residual e = y - y' (AuxK; Gao et al. 2024,
    appendix A.2).

    e' is the sum of the k largest pre-activations among dead latents, after ReLU, times their rows; b_dec is no part of it, and no gradient
    goes through e: live latents are not asked to leave something over. 0 where no latent is dead, or the residual does not vary. 1 or above
    where the dead latents explain nothing."""
    error = error.detach()
    spread = (error - error.mean(0)).square().sum()
    if dead is None or not bool(dead.any()) or not bool(spread > 0):
        return pre.new_zeros(())
    numbers = dead.nonzero().squeeze(1)
    value, place = pre[:, numbers].topk(min(k, len(numbers)), dim=1, sorted=False)
    explained = Latents.from_rectangle(numbers[place], value.relu(), len(dictionary)).times(dictionary)
    return (explained - error).square().sum() / spread


def balance(probability: Float[Tensor, "n n_experts"], choice: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """n_experts sum_e share_e p_e: share_e of the tokens chose expert e, p_e is its mean probability (Fedus et al. 2021, arXiv:2101.03961, eq. 4).

    1 where tokens and probability are spread evenly, n_experts where one expert has all. The gradient goes through p_e."""
    n, n_experts = probability.shape
    share = torch.bincount(choice, minlength=n_experts) / n
    return n_experts * (share * probability.mean(0)).sum()


def prefix_k(k: int, prefix: int, d_sae: int) -> int:
    """Active latents a token of a prefix of the dictionary: its part of k, at least 1."""
    return max(1, round(k * prefix / d_sae))
