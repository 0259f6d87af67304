"""One step of gradients by autograd, for every architecture that can be trained: the obvious form. `sparse_step` has a faster one for two of them.

What is trained is what `Coder.encode` computes, value for value (batchtopk apart, which chooses in the batch; see `threshold`). A router is hard
there too: its choice has no slope, so the chosen latents are multiplied by p / stopgrad(p), p the probability of the chosen slice. That is 1,
and its gradient raises p where more of this slice would lower the loss, and lowers it where less would."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae import losses
from trialplate.sae.activation import BatchTopK, Routed, TopK, slices
from trialplate.sae.coder import Coder
from trialplate.sae.errors import TrainingError
from trialplate.sae.latents import Latents
from trialplate.sae.losses import MULTI, Outcome, Terms, prefix_k
from trialplate.sae.straight_through import jumprelu, step

TRAINABLE = ("relu", "topk", "batchtopk", "jumprelu", "routed")


def gradients(coder: Coder, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], terms: Terms) -> Outcome:
    """Sets `.grad` of every parameter to the gradient of this batch's loss (zeros where there is none), and returns what the batch gave.

    TrainingError for a coder that cannot be trained, or a term that means nothing for its architecture."""
    _require(coder, terms)
    coder.zero_grad()
    outcome = objective(coder, x, y, terms)
    outcome.loss.backward()
    for parameter in coder.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    code = outcome.latents
    return Outcome(
        outcome.loss.detach(),
        Latents(code.starts, code.index, code.value.detach(), code.d_sae),
        outcome.y_hat.detach(),
        {name: part.detach() for name, part in outcome.parts.items()},
    )


def objective(coder: Coder, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], terms: Terms) -> Outcome:
    """The loss of a batch and its parts, differentiable."""
    pre = coder.preactivations(x)
    offset = coder.b_dec + x @ coder.W_skip.T if coder.config.skip else coder.b_dec
    form = _dense_form if coder.config.architecture in ("relu", "jumprelu") else _selected_form
    latents, decode, parts = form(coder, x, pre, terms)
    y_hat = decode(coder.config.d_sae) + offset
    parts["mse"] = losses.reconstruction(y_hat, y)
    if terms.aux:
        parts["aux"] = terms.aux * losses.aux(pre, coder.W_dec, y - y_hat, terms.dead, terms.aux_k)
    if terms.prefix_weight:
        several = [losses.reconstruction(decode(size) + offset, y) for size in coder.config.prefixes]
        parts["prefix"] = terms.prefix_weight * torch.stack(several).mean()
    if terms.multi:
        more = _selection(coder, min(MULTI * _k(coder, terms), coder.config.d_sae))(pre)
        parts["multi"] = terms.multi * losses.reconstruction(more.times(coder.W_dec) + offset, y)
    return Outcome(torch.stack(list(parts.values())).sum(), latents, y_hat, parts)


Decode = Callable[[int], Tensor]
"""What the first so many latents of a dictionary write, without b_dec."""


def _dense_form(coder: Coder, x: Tensor, pre: Tensor, terms: Terms) -> tuple[Latents, Decode, dict[str, Tensor]]:
    """relu and jumprelu: about half the latents are active at the beginning, so the code is a matrix, and a prefix of it is a prefix's code."""
    f = pre.relu() if coder.config.architecture == "relu" else jumprelu(pre, coder.threshold, terms.bandwidth)
    parts = {}
    if terms.l1:
        parts["l1"] = terms.l1 * losses.l1(f, coder.W_dec)
    if terms.l0:
        parts["l0"] = terms.l0 * step(pre, coder.threshold, terms.bandwidth).sum(1).mean()
    return Latents.from_dense(f.detach()), lambda size: f[:, :size] @ coder.W_dec[:size], parts


def _selected_form(coder: Coder, x: Tensor, pre: Tensor, terms: Terms) -> tuple[Latents, Decode, dict[str, Tensor]]:
    """Architectures with k. A prefix chooses anew among its latents: chosen over the whole dictionary, it could be left with none."""
    c, k = coder.config, _k(coder, terms)
    parts: dict[str, Tensor]
    if c.n_experts is None:
        kept, parts = _selection(coder, k)(pre), {}
    else:
        kept, parts = _routed(coder, x, pre, slices(c.d_sae, c.n_experts), terms)

    def decode(size: int) -> Tensor:
        chosen = kept if size == c.d_sae else _selection(coder, prefix_k(k, size, c.d_sae))(pre[:, :size])
        return chosen.times(coder.W_dec[:size])

    return kept, decode, parts


def _routed(coder: Coder, x: Tensor, pre: Tensor, bounds: Tensor, terms: Terms) -> tuple[Latents, dict[str, Tensor]]:
    logits = coder.routes(x)
    choice, probability = logits.argmax(1), logits.softmax(1)
    kept = Routed(_k(coder, terms), bounds.to(x.device), choice)(pre)
    chosen = probability.gather(1, choice.unsqueeze(1)).squeeze(1)
    weight = (chosen / chosen.detach())[kept.rows]
    parts = {"balance": terms.router_balance * losses.balance(probability, choice)} if terms.router_balance else {}
    return Latents(kept.starts, kept.index, kept.value * weight, kept.d_sae), parts


def _selection(coder: Coder, k: int) -> TopK | BatchTopK:
    return BatchTopK(k) if coder.config.architecture == "batchtopk" else TopK(k, coder.config.signed)


def _k(coder: Coder, terms: Terms) -> int:
    k = coder.config.k if terms.k is None else terms.k
    if k is None:
        raise TrainingError(f"a {coder.config.architecture} coder keeps no fixed number k of latents")
    return k


def _require(coder: Coder, terms: Terms) -> None:
    kind = coder.config.architecture
    if kind not in TRAINABLE:
        raise TrainingError(f"a {kind} coder can be read and judged, not trained; trainable: {', '.join(TRAINABLE)}")
    if terms.l1 and kind != "relu":
        raise TrainingError(f"an L1 penalty is for relu coders; {kind} is made sparse by other means")
    if terms.l0 and kind != "jumprelu":
        raise TrainingError(f"an L0 penalty has a gradient for jumprelu only, not for {kind}")
    if terms.multi and kind not in ("topk", "batchtopk"):
        raise TrainingError(
            f"the multi term keeps {MULTI} k latents, which means something for topk and batchtopk only, not for {kind}"
        )
    if terms.prefix_weight and (kind == "routed" or not coder.config.prefixes):
        why = "the slices of its router lie one after another" if kind == "routed" else "its config names none"
        raise TrainingError(f"no prefix of this {kind} coder can be trained: {why}; leave the coefficient at 0")
