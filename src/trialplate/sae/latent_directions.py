"""What a latent's decoder row says by itself: the tokens whose logits it raises by the direct path, and the latents that lie next to it.

Symbols: m latents, v tokens, U [v, d] unembedding. Every number has beside it what random directions of the same number and width show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder

_AT_ONCE = 1 << 24  # products held at once: 64 MB


@dataclass(frozen=True)
class Promoted:
    """Tokens by their logit from one unit of a decoder row, in standard deviations over the vocabulary: the most raised and the most lowered, (id, z)."""

    raised: list[tuple[int, float]]
    lowered: list[tuple[int, float]]


@torch.no_grad()
def promoted(coder: Coder, latents: Sequence[int], model: CausalLM, n: int) -> list[Promoted] | None:
    """For every latent z = (u - mean u) / sd u with u = U w_j, by the direct path from the site to the logits: later layers and the final norm are left out.

    None where the coder does not write as many channels as the unembedding reads."""
    unembedding = _unembedding(coder, model)
    if unembedding is None:
        return None
    found = []
    for z in _z_scores(coder.W_dec[torch.tensor(list(latents), dtype=torch.long)], unembedding):
        most, least = z.topk(min(n, len(z))), (-z).topk(min(n, len(z)))
        raised = list(zip(most.indices.tolist(), most.values.tolist(), strict=True))
        lowered = list(zip(least.indices.tolist(), (-least.values).tolist(), strict=True))
        found.append(Promoted(raised, lowered))
    return found


@torch.no_grad()
def promoted_by_chance(coder: Coder, model: CausalLM, generator: torch.Generator, draws: int = 64) -> float | None:
    """The mean over Gaussian directions of the largest z that `promoted` would give one; None as there."""
    unembedding = _unembedding(coder, model)
    if unembedding is None:
        return None
    drawn = torch.randn(draws, coder.config.d_out, generator=generator).to(unembedding)
    return float(torch.stack([z.max() for z in _z_scores(drawn, unembedding)]).mean())


@torch.no_grad()
def neighbours(coder: Coder, latents: Sequence[int], n: int) -> list[list[tuple[int, float]]]:
    """For every latent the n others whose decoder rows have the largest cosine with its own; none for a row of zeros, and rows of zeros are nobody's."""
    rows = coder.W_dec.float()
    length = rows.norm(dim=1)
    is_zero = length == 0
    found: list[list[tuple[int, float]]] = []
    for j in latents:
        if is_zero[j]:
            found.append([])
            continue
        cosine = (rows @ rows[j] / (length * length[j]).clamp(min=1e-30)).masked_fill(is_zero, -torch.inf)
        cosine[j] = -torch.inf
        most = cosine.topk(min(n, len(cosine)))
        pairs = zip(most.indices.tolist(), most.values.tolist(), strict=True)
        found.append([(other, value) for other, value in pairs if value > -torch.inf])
    return found


def _unembedding(coder: Coder, model: CausalLM) -> Tensor | None:
    weight: Tensor = model.module.get_output_embeddings().weight
    return weight if weight.shape[1] == coder.config.d_out else None


def _z_scores(rows: Float[Tensor, "c d"], unembedding: Float[Tensor, "v d"]) -> Iterator[Tensor]:
    step = max(1, _AT_ONCE // len(unembedding))
    weight = unembedding.float()
    for part in rows.detach().to(weight).split(step):
        logits = part @ weight.T
        spread = logits.std(dim=1, keepdim=True, correction=0).clamp(min=1e-30)
        yield from (logits - logits.mean(dim=1, keepdim=True)) / spread
