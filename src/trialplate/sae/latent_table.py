"""What can be said of each latent by itself: how often it fires, and how its weights lie among the others. Symbols: m latents; arrays are [m]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trialplate.metrics.firing_density import FiringDensity, consistent_activation
from trialplate.metrics.row_cosines import nearest_cosine, paired_cosine
from trialplate.sae.coder import Coder
from trialplate.sae.evaluate import Pairs
from trialplate.sae.source import Source

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LatentTable:
    """One entry a latent; NaN where it is undefined, as said.

    firing                   firings over the rows
    consistent_activation    rows on which it fires / documents in which it fires; NaN for a dead latent
    encoder_bias             b_enc (gated: b_mag);  encoder_norm: |row of the encoder|
    encoder_decoder_cosine   NaN for a row of zeros, and None for a coder whose two sides have other widths
    nearest_encoder, nearest_decoder   largest cosine with another latent's row; NaN for a row of zeros"""

    firing: FiringDensity
    consistent_activation: Vector
    encoder_bias: Vector
    encoder_norm: Vector
    encoder_decoder_cosine: Vector | None
    nearest_encoder: Vector
    nearest_decoder: Vector


@torch.inference_mode()
def latent_table(
    coder: Coder,
    x: Float[Tensor, "n d_in"] | Source,
    *,
    clusters: ArrayLike | None = None,
    batch: int = 4096,
) -> LatentTable:
    """The table of a coder on rows; `clusters` [n] is the document of every row (None: those of the source).

    Holds which latent fired in which document, a byte each. ValueError for no rows, or rows of which no documents are known."""
    rows = Pairs.of(x)
    labels = rows.documents if clusters is None else clusters
    if labels is None:
        raise ValueError("wanted the document of every row: consistency is firings by document")
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    if codes.shape != (rows.n,):
        raise ValueError(f"wanted the document of each of {rows.n} rows, got {codes.shape}")
    seen, fired = np.zeros((codes.max() + 1, coder.config.d_sae), bool), np.zeros(coder.config.d_sae, np.int64)
    for low in range(0, rows.n, batch):
        latents = coder.encode(rows.read(low, min(low + batch, rows.n))[0].to(coder.W_dec))
        active = latents.value != 0
        seen[codes[low + latents.rows[active].cpu().numpy()], latents.index[active].cpu().numpy()] = True
        fired += latents.firings().cpu().numpy()
    return _with_weights(coder, FiringDensity(fired, rows.n), consistent_activation(fired, seen.sum(0)))


def _with_weights(coder: Coder, firing: FiringDensity, consistent: Vector) -> LatentTable:
    same_width = coder.config.d_in == coder.config.d_out
    return LatentTable(
        firing=firing,
        consistent_activation=consistent,
        encoder_bias=_numbers(coder.b_mag if coder.config.architecture == "gated" else coder.b_enc),
        encoder_norm=_numbers(coder.encoder.norm(dim=1)),
        encoder_decoder_cosine=_numbers(paired_cosine(coder.encoder, coder.W_dec)) if same_width else None,
        nearest_encoder=_numbers(nearest_cosine(coder.encoder)),
        nearest_decoder=_numbers(nearest_cosine(coder.W_dec)),
    )


def _numbers(values: Tensor) -> Vector:
    return values.detach().double().cpu().numpy()
