"""The whole probe of one model: margins, statistics of every layer, the comparison of routing with residual, its null, published forms.

`run_probe` measures; `document` says it as plain data; `figures.paris_margin` draws the document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from trialplate.routing.basin import EnergyBasin, energy_basin
from trialplate.routing.comparison import ComparisonSettings, RoutingVersusResidual, compare
from trialplate.routing.encoding import EncodedPrompts
from trialplate.routing.errors import ProbeError
from trialplate.routing.estimates import LayerEstimates, NullBand, estimate_layers, null_bands
from trialplate.routing.heads import HeadAlignment, align_heads, inertia
from trialplate.routing.jacobian import RoutingJacobian, routing_jacobian
from trialplate.routing.layer_statistics import LayerStatistics, chosen_layers, layer_sweep
from trialplate.routing.published import Frozen, Parity, frozen_layer, parity
from trialplate.routing.random_tokens import random_token_statistics
from trialplate.routing.trajectories import trajectory_bundle
from trialplate.routing.twin import random_twin
from trialplate.routing.undisturbed import Undisturbed, logit_lens_margins, observe

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What is run. `layers` None: all. `n_null`: random models of the null, 0 for none; their seeds are seed + 1, seed + 2, ...

    `published`: also the published frozen experiment (its parity experiment always runs, as the raw slopes). `basin_grid`: points on a
    side of the energy basin, 0 for none."""

    layers: list[int] | None = None
    comparison: ComparisonSettings = field(default_factory=ComparisonSettings)
    seed: int = 0
    n_null: int = 3
    published: bool = False
    basin_grid: int = 0
    bootstrap_draws: int = 2_000


@dataclass(frozen=True, slots=True)
class Null:
    """The same measurements on random models: their seeds, bands of the comparison, and the sweep of each model."""

    seeds: list[int]
    bands: list[NullBand]
    sweeps: list[list[LayerStatistics]]


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """Everything that one probe found. Per-layer lists follow `layers`."""

    prompts: EncodedPrompts
    settings: ProbeSettings
    layers: list[int]
    margins: Float[Tensor, " prompt"]
    top_ids: list[list[int]]
    random_tokens: dict[str, float]
    sweep: list[LayerStatistics]
    jacobian: list[RoutingJacobian]
    lens: Float[Tensor, "layer prompt"]
    inertia: list[tuple[list[float], float | None]]
    heads: HeadAlignment
    trajectories: list[list[Float[Tensor, "seq axis"]]]
    raw: list[Parity]
    frozen: list[Frozen]
    comparison: RoutingVersusResidual
    estimates: list[LayerEstimates]
    null: Null | None
    basin: EnergyBasin | None


def run_probe(
    model: ASMLanguageModel,
    prompts: EncodedPrompts,
    settings: ProbeSettings | None = None,
    progress: Progress = lambda text: None,
) -> ProbeRun:
    """Probe a model in eval mode. Deterministic for a seed. Raises ProbeError (see `observe` and `comparison`) before anything is lost."""
    chosen = settings or ProbeSettings()
    if chosen.n_null < 0 or chosen.basin_grid < 0:
        raise ProbeError(f"n_null and basin_grid count models and points: got {chosen.n_null} and {chosen.basin_grid}")
    target, rival = prompts.target_id, prompts.rival_id
    seen = observe(model, prompts.ids, prompts.mask)
    layers = chosen_layers(seen, chosen.layers)
    margins = seen.margins(target, rival)
    progress(f"{len(layers)} layers, {seen.n_prompts} prompts: routing against residual")
    compared = _compared(model, prompts, seen, layers, chosen)
    return ProbeRun(
        prompts,
        chosen,
        layers,
        margins.cpu(),
        seen.logits.topk(min(10, seen.logits.shape[-1])).indices.tolist(),
        random_token_statistics(model, chosen.seed),
        layer_sweep(seen, margins, layers=layers, window=chosen.comparison.window),
        routing_jacobian(model, seen, target, rival, layers=layers, window=chosen.comparison.window),
        logit_lens_margins(model, seen, target, rival)[layers].cpu(),
        [inertia(seen, layer) for layer in layers],
        align_heads(seen),
        [trajectory_bundle(seen, layer, window=chosen.comparison.window) for layer in layers],
        [parity(model, seen, target, rival, layer, window=chosen.comparison.window) for layer in layers],
        [frozen_layer(model, seen, target, rival, layer, window=chosen.comparison.window) for layer in layers]
        if chosen.published
        else [],
        compared,
        estimate_layers(compared, chosen.seed, chosen.bootstrap_draws),
        _null(model, prompts, layers, chosen, progress) if chosen.n_null else None,
        _basin(model, seen, target, chosen.basin_grid) if chosen.basin_grid else None,
    )


def _compared(
    model: ASMLanguageModel, prompts: EncodedPrompts, seen: Undisturbed, layers: list[int], settings: ProbeSettings
) -> RoutingVersusResidual:
    return compare(
        model,
        seen,
        prompts.target_id,
        prompts.rival_id,
        settings.comparison,
        is_control=prompts.is_control,
        layers=layers,
    )


def _null(
    model: ASMLanguageModel, prompts: EncodedPrompts, layers: list[int], settings: ProbeSettings, progress: Progress
) -> Null:
    """The comparison and the sweep on random models of the same configuration, on the same prompts."""
    seeds = [settings.seed + 1 + index for index in range(settings.n_null)]
    twins, sweeps = [], []
    for index, seed in enumerate(seeds, start=1):
        progress(f"null: random model {index} of {len(seeds)}")
        twin = random_twin(model, seed)
        seen = observe(twin, prompts.ids, prompts.mask)
        margins = seen.margins(prompts.target_id, prompts.rival_id)
        twins.append(_compared(twin, prompts, seen, layers, settings))
        sweeps.append(layer_sweep(seen, margins, layers=layers, window=settings.comparison.window))
    return Null(seeds, null_bands(twins, settings.seed, settings.bootstrap_draws), sweeps)


PUBLISHED_AXES_LAYER = 9
PUBLISHED_FORCED_LAYERS = (3, 7, 13)


def _basin(model: ASMLanguageModel, seen: Undisturbed, target_id: int, grid: int) -> EnergyBasin:
    """At the published layers where the model has them; in a shallower one at the same part of its depth."""
    deepest = max(PUBLISHED_FORCED_LAYERS)
    scale = min(1.0, (seen.n_layers - 1) / deepest)
    axes, *forced = (round(layer * scale) for layer in (PUBLISHED_AXES_LAYER, *PUBLISHED_FORCED_LAYERS))
    return energy_basin(model, seen, target_id, axes_layer=axes, forced_layers=sorted(set(forced)), grid=grid)
