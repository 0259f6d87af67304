"""Hooks of trialplate. A conftest or plugin implements them as plain functions of these names; pytest's own hooks must begin with
`pytest_`, so ours are kept by a plugin manager beside pytest's that sees the same plugins."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

import pluggy
import pytest

from trialplate.plugin import keys

hookspec = pluggy.HookspecMarker("trialplate")
_PREFIX = "trialplate_"


@hookspec(firstresult=True)
def trialplate_load_model(name: str, revision: str | None, device: str, dtype: str) -> Any:
    """A model of your own: return a CausalLM, or (torch module, tokenizer), or None when the name is not yours."""


@hookspec
def trialplate_metrics() -> dict[str, Any] | None:
    """Rows for the metric catalogue: {name: (unit, "higher" | "lower" | "none", low, high, text)}."""


@hookspec(firstresult=True)
def trialplate_devices() -> dict[str, str] | None:
    """Devices present, {name: torch device}; replaces detection. A name that is played by another device is written into the report."""


@hookspec
def trialplate_write_report(report: Any, folder: Path) -> None:
    """Called with the finished report after it is on the disk; write it wherever it should go too."""


class _Hooks(pluggy.PluginManager):
    n_seen = 0

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        found = getattr(plugin, name, None) if name.startswith(_PREFIX) else None
        if not (inspect.isfunction(found) or inspect.ismethod(found)):  # fixtures may have any name
            return None
        if not hasattr(self.hook, name):  # a hook that is never called would be missed by nobody
            known = sorted(n.removeprefix(_PREFIX) for n in vars(self.hook) if n.startswith(_PREFIX))
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), known, 1)
            hint = f"did you mean {_PREFIX}{near[0]}?" if near else f"hooks are {', '.join(_PREFIX + n for n in known)}"
            raise pytest.UsageError(f"{getattr(plugin, '__file__', plugin)}: {name} is no hook of trialplate; {hint}")
        return super().parse_hookimpl_opts(plugin, name) or {}


def own_hooks(config: pytest.Config) -> Any:
    """The hook caller over all plugins and conftests that are registered by now."""
    manager = config.stash.get(keys.OWN_HOOKS, None)
    if manager is None:
        manager = config.stash[keys.OWN_HOOKS] = _Hooks("trialplate")
        import trialplate.plugin.hookspec as specs

        manager.add_hookspecs(specs)
    plugins = config.pluginmanager.get_plugins()
    if len(plugins) == manager.n_seen:  # asked once a case: nothing was registered since
        return manager.hook
    manager.n_seen = len(plugins)
    for plugin in plugins:
        if getattr(plugin, "__name__", "").startswith("trialplate.plugin") or manager.is_registered(plugin):
            continue
        try:
            manager.register(plugin, name=str(id(plugin)))  # two conftests may share a module name
        except pluggy.PluginValidationError as e:
            raise pytest.UsageError(f"{getattr(plugin, '__file__', plugin)}: {e}") from e
    return manager.hook


def has_own_loader(config: pytest.Config) -> bool:
    """Whether somebody implements trialplate_load_model, so that a name may be served that nothing else knows."""
    return bool(own_hooks(config).trialplate_load_model.get_hookimpls())


def extra_metrics(config: pytest.Config) -> dict[str, Any]:
    """Catalogue rows of the suite's own."""
    from trialplate.report.catalogue import Metric

    hooks, n_seen = own_hooks(config), config.stash[keys.OWN_HOOKS].n_seen
    known = config.stash.get(keys.EXTRA_METRICS, (None, {}))
    if known[0] == n_seen:
        return known[1]
    found: dict[str, Any] = {}
    for rows in hooks.trialplate_metrics():
        for name, row in rows.items():
            if len(row) != 5 or row[1] not in ("higher", "lower", "none"):
                raise pytest.UsageError(
                    f"trialplate_metrics: {name!r}: wanted (unit, 'higher' | 'lower' | 'none', low, high, text), got {row!r}"
                )
            found[name] = Metric(*row)
    config.stash[keys.EXTRA_METRICS] = (n_seen, found)
    return found
