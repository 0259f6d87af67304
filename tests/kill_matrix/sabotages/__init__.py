"""All sabotages, by where the fault is."""

from __future__ import annotations

from tests.kill_matrix.sabotage import Sabotage


def all_sabotages() -> dict[str, tuple[Sabotage, ...]]:
    """{heading: sabotages}, in the order of the table. Names are unique."""
    from tests.kill_matrix.sabotages import activations, addressed, archive, coders, loaded, scoring, stored, tokenizing

    return {
        "Files": stored.SABOTAGES,
        "Model": loaded.SABOTAGES,
        "Tokenizer": tokenizing.SABOTAGES,
        "Scoring and tasks": scoring.SABOTAGES,
        "Addressed State Model": addressed.SABOTAGES,
        "Activations": activations.SABOTAGES,
        "Coders": coders.SABOTAGES,
        "Archive": archive.SABOTAGES,
    }
