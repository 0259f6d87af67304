"""The energy basin: -log P(target) over a plane of routing logits. The plane is spanned by the first two principal axes of one layer's Z;
each of its points is decoded to K logits, and their softmax is forced on every head of some layers at the last token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from trialplate.routing.disturbed import run_forced
from trialplate.routing.errors import ProbeError
from trialplate.routing.late_window import principal_axes
from trialplate.routing.layer_statistics import chosen_layers
from trialplate.routing.margin import TokenIds, picked
from trialplate.routing.undisturbed import Undisturbed

PADDED = 0.35
QUANTILES = (0.01, 0.99)


@dataclass(frozen=True, slots=True)
class EnergyBasin:
    """`energy` [x, y] is the mean over prompts of -log P(target) in nats at the coordinates `x`, `y`; lower is deeper.

    `energy_at_mean` belongs to the origin of the axes, `undisturbed` [prompt] to the model left alone."""

    axes_layer: int
    forced_layers: list[int]
    x: Float[Tensor, " x"]
    y: Float[Tensor, " y"]
    energy: Float[Tensor, "x y"]
    energy_at_mean: float
    undisturbed: Float[Tensor, " batch"]

    @property
    def bottom(self) -> tuple[float, float, float]:
        """Coordinates and energy of the lowest point of the grid."""
        index = int(self.energy.argmin())
        column = index % len(self.y)
        row = index // len(self.y)
        return self.x[row].item(), self.y[column].item(), self.energy[row, column].item()


def energy_basin(
    model: ASMLanguageModel,
    seen: Undisturbed,
    target_id: TokenIds,
    *,
    axes_layer: int,
    forced_layers: list[int],
    grid: int = 60,
) -> EnergyBasin:
    """The basin on a grid x grid plane that spans the 1 to 99 % range of the points, widened by 35 % of it on each side.

    The axes are those of all positions, padded ones included, as published. Cost: grid^2 runs of the prompts."""
    chosen_layers(seen, [axes_layer])
    chosen_layers(seen, forced_layers)
    if grid < 2:
        raise ProbeError(f"a grid of {grid} points a side spans no plane; wanted at least 2, published: 60")
    points = seen.mean_read_logits(axes_layer).flatten(0, 1)
    axes = principal_axes(points, 2, f"read logits of layer {axes_layer}")
    x, y = (_side(column, grid) for column in axes.coordinates(points).T)
    plane = axes.decode(torch.cartesian_prod(x, y))
    decoded = torch.softmax(torch.cat([plane, axes.mean.unsqueeze(0)]), dim=-1)  # the last one is the origin
    forced = decoded.unsqueeze(1).expand(-1, seen.n_prompts, -1)
    energies = torch.cat(
        [_energy(run_forced(model, seen, forced_layers, part), target_id).mean(1) for part in forced.split(64)]
    )
    return EnergyBasin(
        axes_layer,
        forced_layers,
        x,
        y,
        energies[:-1].reshape(grid, grid),
        energies[-1].item(),
        _energy(seen.logits, target_id),
    )


def _side(coordinates: Tensor, grid: int) -> Tensor:
    low, high = torch.quantile(coordinates, coordinates.new_tensor(QUANTILES))
    margin = PADDED * (high - low)
    return torch.linspace(
        float(low - margin), float(high + margin), grid, dtype=coordinates.dtype, device=coordinates.device
    )


def _energy(logits: Tensor, target_id: TokenIds) -> Tensor:
    return -picked(torch.log_softmax(logits, dim=-1), target_id)
