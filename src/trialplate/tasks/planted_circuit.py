"""A circuit that is known because it was planted: numbers modulo n as points on circles, one plane of the model's space a frequency, as modular
addition is done by trained transformers (Nanda et al. 2023, arXiv:2301.05217).

Symbols: t = 0 .. n-1; k a frequency; u_k, v_k orthonormal directions of its plane; w_k(t) = cos(2 pi k t / n) u_k + sin(2 pi k t / n) v_k.

    embedding   E[t] = sum_k w_k(t) + noise                         what a transformer's embedding of the numbers looks like
    rows        x = sum_k g_k w_k(t) + noise, with g_k = 0 or a size      what coders are trained on: planes come and go by themselves, so that no
                                                                    coder can keep a latent for each number instead of reading the planes"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class PlantedCircuit:
    """embedding [n, d] and rows [N, d] float32; planes [F, 2, d] orthonormal; frequencies [F], ascending."""

    embedding: Float[np.ndarray, "n d"]
    rows: Float[np.ndarray, "N d"]
    planes: Float[np.ndarray, "F 2 d"]
    frequencies: Int[np.ndarray, " F"]


def planted_circuit(
    n: int,
    d: int,
    n_frequencies: int,
    n_rows: int,
    rng: np.random.Generator,
    *,
    active: float = 1.5,
    noise: float = 0.01,
) -> PlantedCircuit:
    """A circuit of n numbers in d channels with random frequencies below n / 2, and N = n_rows rows.

    active  mean number of planes in a row; the size of one that is there is uniform between 0.5 and 1.5
    noise   standard deviation in every channel, of embedding and rows. ValueError for more planes than d or n have room for, or no rows."""
    most = min(d // 2, (n - 1) // 2)
    if not 1 <= n_frequencies <= most or n_rows < 1:
        raise ValueError(
            f"{n} numbers in {d} channels have room for 1 to {most} frequencies, got {n_frequencies}; and rows {n_rows}, wanted at least 1"
        )
    if not 0 < active <= n_frequencies or not 0 <= noise < np.inf:
        raise ValueError(
            f"wanted 0 < active <= {n_frequencies} planes and noise of at least 0, got {active} and {noise}"
        )
    frequencies = np.sort(rng.choice(np.arange(1, (n - 1) // 2 + 1), n_frequencies, replace=False))
    basis = np.linalg.qr(rng.standard_normal((d, 2 * n_frequencies)))[0].T.reshape(n_frequencies, 2, d)
    angle = 2 * np.pi * np.outer(np.arange(n), frequencies) / n
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=2)  # [n, F, 2]
    embedding = np.einsum("tfs,fsd->td", waves, basis) + noise * rng.standard_normal((n, d))
    on = rng.random((n_rows, n_frequencies)) < active / n_frequencies
    size = np.where(on, rng.uniform(0.5, 1.5, on.shape), 0)
    rows = np.einsum("nf,nfs,fsd->nd", size, waves[rng.integers(0, n, n_rows)], basis)
    rows += noise * rng.standard_normal(rows.shape)
    return PlantedCircuit(embedding.astype(np.float32), rows.astype(np.float32), basis.astype(np.float32), frequencies)
