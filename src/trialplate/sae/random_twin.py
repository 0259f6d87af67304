"""The control of every claim about a coder: one of the same description and the same L0 that learned nothing.

L0 is matched because a denser code is better at almost everything: an initialised relu coder has half of its latents active, and would be compared
with a trained one that has thirty."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.evaluate import Pairs, passes, target_mean
from trialplate.sae.source import Source

_BATCH = 4096
_NUMBERS_AT_ONCE = 1 << 24  # pre-activations that the bias is chosen from: 64 MB


@torch.no_grad()
def random_twin(
    coder: Coder,
    rows: Float[Tensor, "n d_in"] | Source,
    generator: torch.Generator,
    y: Float[Tensor, "n d_out"] | None = None,
) -> Coder:
    """A coder of the same configuration, as it is before training (`coder.initialise`), whose L0 on the rows is that of the coder.

    rows, y    as `evaluate.core_scores`: b_dec is the mean of what is to be written, and one bias for all latents sets L0, to within one
               activation in all the rows (an even sample of them where they are many); topk and routed coders have their k
    W_skip     is the coder's: what is linear in it is not what the latents learned

    On the coder's device and in its dtype. ValueError for no rows, a coder that is silent on them (it has no L0 to match), and as `core_scores`."""
    if not (len(rows) if isinstance(rows, Tensor) else rows.n_rows):
        raise ValueError("a random twin wants rows: its mean and its L0 are taken from them")
    pairs = Pairs.of(rows, y)
    active = sum(int(latents.active().sum()) for _, _, latents, _ in passes(coder, pairs))
    if not active:
        raise ValueError(f"the coder is silent on all {pairs.n} rows, so there is no L0 that a twin could have")
    config = coder.config.with_(about={"control": "initialised, never trained"})
    twin = initialise(Coder(config), generator, mean=target_mean(pairs).float().cpu()).to(coder.W_dec)
    if config.skip:
        twin.W_skip.copy_(coder.W_skip)
    if config.architecture not in ("topk", "routed"):
        _shift(twin, _threshold(twin, pairs, active / pairs.n))
    return twin.eval().requires_grad_(False)


def _threshold(twin: Coder, rows: Pairs, l0: float) -> float:
    """Between the pre-activations so that l0 a row lie above, on an even sample of the rows."""
    most = max(1, _NUMBERS_AT_ONCE // twin.config.d_sae)
    step = -(-rows.n // most)
    blocks = ((low, rows.read(low, min(low + _BATCH, rows.n))[0]) for low in range(0, rows.n, _BATCH))
    pre = torch.cat([twin.preactivations(x[-low % step :: step].to(twin.W_dec)) for low, x in blocks])
    count = min(round(l0 * len(pre)), pre.numel() - 1)
    values = pre.flatten().topk(count + 1, sorted=True).values
    return float(values[-2:].double().mean()) if count else float(values[-1])


def _shift(twin: Coder, threshold: float) -> None:
    """Latents are active above the threshold, by what they exceed it."""
    if twin.config.architecture == "gated":
        twin.b_gate.fill_(-threshold)
        twin.b_mag.fill_(-threshold)
        return
    twin.b_enc.fill_(-threshold)
    if twin.config.architecture in ("jumprelu", "batchtopk"):
        twin.threshold.zero_()
