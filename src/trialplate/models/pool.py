"""A pool of loaded models: one load per model, device and dtype in a process, however tests are ordered. Least recently used leaves first."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import torch

from trialplate.models.causal_lm import CausalLM
from trialplate.models.errors import ModelError
from trialplate.models.spec import ModelSpec

Loader = Callable[[ModelSpec], CausalLM]


@dataclass(slots=True)
class PoolStats:
    """What the pool did: loads (twins apart), hits, evictions, and seconds of wall time per load by model key."""

    loads: int = 0
    hits: int = 0
    twins: int = 0
    evictions: int = 0
    load_seconds: dict[str, float] = field(default_factory=dict)


class ModelPool:
    """Loaded models by key. `byte_budget` bounds parameters and buffers over all of them; the model just asked for always stays.

    A model that failed to load fails again with the same error, without another attempt."""

    def __init__(self, loader: Loader, byte_budget: int | None = None) -> None:
        if byte_budget is not None and byte_budget < 1:
            raise ValueError(f"a byte budget must be positive, got {byte_budget}")
        self.stats = PoolStats()
        self._loader, self._byte_budget = loader, byte_budget
        self._held: OrderedDict[ModelSpec | tuple[ModelSpec, int], CausalLM] = OrderedDict()
        self._failed: dict[ModelSpec, ModelError | ValueError] = {}

    def lease(self, spec: ModelSpec) -> CausalLM:
        """The model, loaded if it is not held. Raises what the loader raises."""
        if spec in self._failed:
            raise self._failed[spec].with_traceback(None)
        if (model := self._held.get(spec)) is not None:
            self._held.move_to_end(spec)
            self.stats.hits += 1
            return model
        started = perf_counter()
        try:
            model = self._loader(spec)
        except (ModelError, ValueError) as error:  # CheckpointError is a ValueError
            self._failed[spec] = error
            raise
        self.stats.loads += 1
        self.stats.load_seconds[spec.key] = perf_counter() - started
        self._keep(spec, model)
        return model

    def twin(self, spec: ModelSpec, seed: int) -> CausalLM:
        """The random twin of a model, kept like a model of its own."""
        key = (spec, seed)
        if (held := self._held.get(key)) is not None:
            self._held.move_to_end(key)
            self.stats.hits += 1
            return held
        twin = self.lease(spec).random_twin(seed)
        self.stats.twins += 1
        self._keep(key, twin)
        return twin

    @property
    def n_bytes(self) -> int:
        """Bytes of all models held."""
        return sum(map(model_bytes, self._held.values()))

    def clear(self) -> None:
        """Let go of every model, and of remembered failures."""
        self._held.clear()
        self._failed.clear()
        _release_cached_memory()

    def _keep(self, key: ModelSpec | tuple[ModelSpec, int], model: CausalLM) -> None:
        self._held[key] = model
        if self._byte_budget is None:
            return
        while len(self._held) > 1 and self.n_bytes > self._byte_budget:
            self._held.popitem(last=False)
            self.stats.evictions += 1
            _release_cached_memory()


def model_bytes(model: CausalLM) -> int:
    """Bytes of parameters and buffers, tied ones once."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.module.parameters(), *model.module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _release_cached_memory() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
