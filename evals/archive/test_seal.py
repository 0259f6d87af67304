"""The archive of slow reference forms: every file is as it was sealed. It says nothing about a model, and is measured beside each, so that a
release rests on reference forms that nobody has changed since.

Budget: 1 CPU second.
"""

from pathlib import Path

from trialplate.inventory import seal

ARCHIVE = Path(__file__).parents[2] / "building_blocks"


def test_seal(subject, record):
    """Share of files, listed or present, that are there and as they were sealed."""
    found = seal.inspect(ARCHIVE)
    samples = [{"item": name, "value": int(name in found.intact)} for name in found.names]
    record("sealed_files_intact", len(found.intact) / len(found.names), n=len(found.names), samples=samples)
    assert found.listed
