"""Parameters of our own fixtures: subjects for whatever needs a model, (gate, subject) pairs for whatever judges."""

from __future__ import annotations

from typing import Any

import pytest

from trialplate.plugin import keys, subjects


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give ids that name the subject or the gate: ids are keys of the history."""
    if "trialplate_subject" in metafunc.fixturenames:
        _over_subjects(metafunc)
    if "trialplate_gate" in metafunc.fixturenames:
        _over_gates(metafunc)


def _over_subjects(metafunc: pytest.Metafunc) -> None:
    specs = subjects.subjects(metafunc.config)
    if not specs:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} needs a model: give --trialplate-model NAME, or set trialplate_models in "
            f"the ini file"
        )
    params = [_marked(s, s.key, s.device) for s in specs]
    metafunc.parametrize("trialplate_subject", params, indirect=True)


def _over_gates(metafunc: pytest.Metafunc) -> None:
    bindings = metafunc.config.stash.get(keys.BINDINGS, None)
    if bindings is None:
        from trialplate.plugin.start import all_bindings

        bindings = metafunc.config.stash[keys.BINDINGS] = all_bindings(metafunc.config)
    params = [_marked(b, f"{b.subject}-{b.gate.name}", _device(b.subject)) for b in bindings]
    judged = {b.subject for b in bindings}
    params += [
        _marked(s.key, f"{s.key}-no policy", s.device)
        for s in subjects.subjects(metafunc.config)
        if s.key not in judged
    ]
    metafunc.parametrize("trialplate_gate", params, indirect=True)


def _marked(value: Any, name: str, device: str) -> Any:
    marks = [pytest.mark.gpu] if subjects.is_gpu(device) else []
    return pytest.param(value, id=name, marks=marks)


def _device(key: str) -> str:
    return key.split("|")[1] if key.count("|") == 2 else "cpu"
