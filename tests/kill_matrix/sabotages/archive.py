"""Faults of the archive of reference forms: what other code is compared with is no longer what was sealed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from shutil import copytree
from unittest.mock import patch

from tests.kill_matrix.inner import ROOT
from tests.kill_matrix.sabotage import ASM, Sabotage, Scene

from trialplate.inventory import seal


@contextmanager
def file_edited(scene: Scene) -> Iterator[None]:
    copy = copytree(ROOT / "building_blocks", scene.folder / "building_blocks")
    file = copy / "routing.py"
    file.write_text(file.read_text(encoding="utf-8") + "# one more line\n", encoding="utf-8")
    honest = seal.inspect
    with patch.object(seal, "inspect", lambda folder: honest(copy)):
        yield


SABOTAGES: tuple[Sabotage, ...] = (
    Sabotage(
        "sealed-file-edited", "A file of the archive has one more line than when it was sealed.", file_edited, ASM
    ),
)
