"""The null of the probe: models of the same configuration whose weights are drawn and never trained."""

from __future__ import annotations

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.utils.seed import generators_kept, seed_generators
from trialplate.routing.errors import ProbeError


def random_twin(model: ASMLanguageModel, seed: int) -> ASMLanguageModel:
    """A freshly initialised model of the same configuration, on the same device and in the same dtype, in eval mode.

    The global generators are as they were afterwards. Raises ProbeError for a model that does not carry its configuration."""
    if model.cfg is None:
        raise ProbeError(
            "the model carries no configuration (model.cfg is None), so a random twin cannot be built; make it with build_model_from_cfg "
            "or load_checkpoint, or leave the null out"
        )
    with generators_kept():
        seed_generators(seed)
        twin = build_model_from_cfg(model.cfg, model.variant)
    weight = model.tok.weight
    return twin.to(device=weight.device, dtype=weight.dtype).eval()
