"""The Paris-margin probe, and what routing has to do with it.

`margins`, `observe` and `routing_versus_residual` are what an eval needs; `run_probe` is the whole probe of a model and `document` what it writes.
Behind them: `prompts`, `encoding`, `characters` (what is asked), `undisturbed`, `disturbed` (runs of the model), `late_window`,
`layer_statistics`, `jacobian`, `basin`, `trajectories`, `heads`, `random_tokens` (what is measured), `arms`, `directions`, `matching`,
`comparison`, `estimates`, `twin`, `finding` (the comparison and its null), `published` (the experiments as they were first run), `folder`.
Importing the package imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ComparisonSettings": "comparison",
    "EncodedPrompts": "encoding",
    "ProbeError": "errors",
    "ProbeRun": "probe",
    "ProbeSettings": "probe",
    "PromptSet": "prompts",
    "RoutingVersusResidual": "comparison",
    "Undisturbed": "undisturbed",
    "align_heads": "heads",
    "before_and_after": "results",
    "document": "results",
    "encode_prompts": "encoding",
    "energy_basin": "basin",
    "estimate_layers": "estimates",
    "frozen_layer": "published",
    "inertia": "heads",
    "layer_sweep": "layer_statistics",
    "logit_lens_margins": "undisturbed",
    "margins": "margin",
    "null_bands": "estimates",
    "observe": "undisturbed",
    "parity": "published",
    "prompt_set": "prompts",
    "random_twin": "twin",
    "routing_jacobian": "jacobian",
    "routing_versus_residual": "comparison",
    "run_probe": "probe",
    "trajectory_bundle": "trajectories",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
