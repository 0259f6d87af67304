"""A sabotage is one fault with a name: a context in which the evals run, and after which everything is as before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trialplate.report.model import Report

SUBJECT = "embedded:neox-tiny"
ASM = "embedded:asm-tiny"
# Evals of what a model says; those of activations cost as much as all of them together, and run under the faults that are about them.
SCORING = tuple(f"evals/{name}" for name in ("archive", "asa", "checkpoints", "likelihood", "probes", "tokenizers"))
Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Scene:
    """What a sabotage may use: an empty folder of its own, and the report of the run without any fault."""

    folder: Path
    baseline: Report


@dataclass(frozen=True)
class Sabotage:
    """One fault. `text` says in one sentence what is broken; `apply` is the context in which it is; `subject` is the model that has it; `paths`
    are the evals that run under it."""

    name: str
    text: str
    apply: Callable[[Scene], AbstractContextManager[Any]]
    subject: str = SUBJECT
    paths: tuple[str, ...] = SCORING


def on_files(name: str, text: str, edit: Callable[[Path, Scene], None], *, subject: str = SUBJECT) -> Sabotage:
    """A fault of the model's files: `edit` changes a copy of its folder, and the embedded model is looked for there."""

    @contextmanager
    def apply(scene: Scene) -> Iterator[None]:
        from trialplate.models import resolve

        copy = scene.folder / "embedded" / subject.removeprefix("embedded:")
        copytree(resolve.EMBEDDED_FOLDER / copy.name, copy)
        edit(copy, scene)
        with patch.object(resolve, "EMBEDDED_FOLDER", copy.parent):
            yield

    return Sabotage(name, text, apply, subject)


def on_stored(
    name: str, text: str, edit: Callable[[Tensors, Scene], Tensors | None], *, subject: str = SUBJECT
) -> Sabotage:
    """A fault of the stored tensors: `edit` changes them in place or gives others."""

    def rewrite(folder: Path, scene: Scene) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        changed = edit(tensors, scene) or tensors
        save_file({n: t.contiguous() for n, t in changed.items()}, folder / "model.safetensors", {"format": "pt"})

    return on_files(name, text, rewrite, subject=subject)


def on_json(
    name: str, text: str, file: str, edit: Callable[[dict[str, Any]], None], *, subject: str = SUBJECT
) -> Sabotage:
    """A fault of one of the JSON files beside the weights."""

    def rewrite(folder: Path, scene: Scene) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        edit(content)
        (folder / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    return on_files(name, text, rewrite, subject=subject)


def on_module(name: str, text: str, edit: Callable[[nn.Module], None], *, subject: str = SUBJECT) -> Sabotage:
    """A fault that comes in after the files were read rightly: `edit` changes the module in memory."""

    @contextmanager
    def apply(scene: Scene) -> Iterator[None]:
        from trialplate.models import load

        honest = load.load_weights

        def load_weights(*args: Any) -> nn.Module:
            module = honest(*args)
            edit(module)
            return module

        with patch.object(load, "load_weights", load_weights):
            yield

    return Sabotage(name, text, apply, subject)


def on_code(
    name: str,
    text: str,
    *changes: Callable[[], tuple[Any, str, Any]],
    subject: str = SUBJECT,
    paths: tuple[str, ...] = SCORING,
) -> Sabotage:
    """A fault of our own code: each change names an object, an attribute, and what stands there while the evals run."""

    @contextmanager
    def apply(scene: Scene) -> Iterator[None]:
        from contextlib import ExitStack

        with ExitStack() as stack:
            for change in changes:
                owner, attribute, value = change()
                stack.enter_context(patch.object(owner, attribute, value))
            yield

    return Sabotage(name, text, apply, subject, paths)
