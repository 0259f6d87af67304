"""Makes the transformers library know ASMs, without importing it: what there is to register waits until the library's own tables arrive.

Importing this module is enough. `AutoConfig` and `AutoModelForCausalLM` then take folders of model type "asm", whichever is imported first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_CONFIGS = "transformers.models.auto.configuration_auto"
_MODELS = "transformers.models.auto.modeling_auto"
_NEEDED = ("transformers.modeling_utils", "transformers.generation.utils")  # by our model class


def install() -> None:
    """Register now what can be, and the rest once its table is imported. A second call changes nothing."""
    waiting = {}
    for name, register in ((_CONFIGS, register_config), (_MODELS, register_model)):
        if name in sys.modules:
            register()
        else:
            waiting[name] = register
    if waiting and not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(waiting))


def register_config() -> None:
    """Make `AutoConfig` read configurations of model type "asm"."""
    from transformers.models.auto.configuration_auto import AutoConfig

    from asa.hf_config import ASMConfig

    AutoConfig.register(ASMConfig.model_type, ASMConfig, exist_ok=True)


def register_model() -> None:
    """Make `AutoModelForCausalLM` build our model, if its table is there and what the model needs is not just being imported.

    Every configuration asks again when it is made, which is before any use of the table for it."""
    if _MODELS not in sys.modules or any(map(_is_being_imported, _NEEDED)):
        return
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    from asa.hf import ASMForCausalLM

    AutoModelForCausalLM.register(ASMForCausalLM.config_class, ASMForCausalLM, exist_ok=True)


def _is_being_imported(name: str) -> bool:
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


class _AfterImport(MetaPathFinder):
    """Leaves finding to others, and acts when one of its modules has been imported."""

    def __init__(self, actions: dict[str, Callable[[], None]]) -> None:
        self._actions = actions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that acts afterwards; None for any module but ours."""
        if fullname not in self._actions:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Then(spec.loader, self._actions[fullname])
                return spec
        return None


class _Then(Loader):
    """Another loader, and what comes after it. The module keeps the other loader as its own."""

    def __init__(self, loader: Loader, action: Callable[[], None]) -> None:
        self._loader, self._action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module as its own loader does, then act."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action()


install()
