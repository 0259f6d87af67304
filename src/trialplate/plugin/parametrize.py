"""Parameters of our own fixtures: subjects for whatever needs a model, (gate, subject) pairs for whatever judges."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from trialplate.plugin import keys, subjects

_NEED_SUBJECT = {"model", "subject", "source", "tokenizer", "scorer", "control", "control_scorer", "golden_file"}


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give ids that name the subject or the gate: ids are keys of the history."""
    if "trialplate_subject" in metafunc.fixturenames and not _is_shadowed(metafunc):
        _over_subjects(metafunc)
    if "trialplate_gate" in metafunc.fixturenames:
        _over_gates(metafunc)


def _is_shadowed(metafunc: pytest.Metafunc) -> bool:
    """Whether the suite gives values of its own under a name of ours: a `model` that it parametrizes is not our model."""
    given = {name for call in getattr(metafunc, "_calls", ()) for name in call.params}
    return bool(given & _NEED_SUBJECT)


def _over_subjects(metafunc: pytest.Metafunc) -> None:
    params = [_marked(s, s.key, s.device) for s in subjects.subjects(metafunc.config)]
    # without any model: a case that says so if it is selected, which `-m gate` would not do
    metafunc.parametrize("trialplate_subject", params or [pytest.param(None, id="no model")], indirect=True)


def _over_gates(metafunc: pytest.Metafunc) -> None:
    bindings = metafunc.config.stash.get(keys.BINDINGS, None)
    if bindings is None:
        from trialplate.plugin.start import all_bindings

        bindings = metafunc.config.stash[keys.BINDINGS] = all_bindings(metafunc.config)
    named = Counter((b.subject, b.gate.name) for b in bindings)
    params = [_marked(b, _gate_id(b, named[b.subject, b.gate.name] > 1), _device(b.subject)) for b in bindings]
    judged = {b.subject for b in bindings}
    params += [
        _marked(s.key, f"{s.key}-no policy", s.device)
        for s in subjects.subjects(metafunc.config)
        if s.key not in judged
    ]
    # without any policy or model: one case that fails, not pytest's one case that skips
    metafunc.parametrize("trialplate_gate", params or [_marked("", "no policy", "cpu")], indirect=True)


def _gate_id(binding: Any, shared: bool) -> str:
    """Subject and gate; the policy too where another policy has a gate of that name."""
    name = f"{binding.policy.name}-{binding.gate.name}" if shared else binding.gate.name
    return f"{binding.subject}-{name}"


def _marked(value: Any, name: str, device: str) -> Any:
    marks = [pytest.mark.gpu] if subjects.is_gpu(device) else []
    return pytest.param(value, id=name, marks=marks)


def _device(key: str) -> str:
    return key.split("|")[1] if key.count("|") == 2 else "cpu"
