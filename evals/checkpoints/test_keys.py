"""Checkpoint keys: the names, shapes, dtypes and contents that others load by. Read from headers; tensors are read only where contents are pinned.

Budget: 3 CPU seconds.
"""

import pytest

from trialplate.checkpoints.diff import compare_keys
from trialplate.checkpoints.golden import GoldenKeys, find_golden, golden_path, write_golden
from trialplate.models import checks
from trialplate.models.catalog import canonical_name
from trialplate.models.stored import stored_manifest

COUNTS = {"missing": "missing_keys", "unexpected": "unexpected_keys", "renamed": "renamed_keys", "shape_changed": "shape_changes",
          "dtype_changed": "dtype_changes", "content_changed": "content_changes"}  # fmt: skip


@pytest.mark.requires_files
@pytest.mark.requires_golden("keys")
def test_keys_against_golden(subject, source, record, golden_dir, golden_update):
    """Missing, unexpected, renamed (beyond the allowed list, such as embed_out -> lm_head), reshaped, recast and rewritten tensors."""
    name = canonical_name(subject.name)
    if golden_update:
        # contents are pinned for the shipped model only: of a hub model they would make one revision the reference for all
        pinned = source.kind == "embedded"
        old = find_golden(golden_dir / "keys", name) or GoldenKeys((name,), "", {})
        manifest = stored_manifest(source, content=pinned)
        write_golden(golden_path(golden_dir / "keys", name), old.models, manifest, note=old.note, content=pinned)
    golden = find_golden(golden_dir / "keys", name)
    diff = compare_keys(golden.keys, stored_manifest(source, content=golden.has_content, transposed=golden.has_content))
    counts = diff.counts()
    for kind, metric in COUNTS.items():
        if kind != "content_changed" or diff.n_compared_content:
            samples = [{"item": str(found)[:200], "value": 1} for found in getattr(diff, kind)]
            null = ("golden against itself", 0)
            record(metric, counts[kind], n=diff.n_golden, null=null, samples=samples, against="golden")
    assert diff.n_golden > 0


@pytest.mark.requires_files
def test_strict_load(model, record):
    """Every key that the module wants is in the file and no other, every floating tensor has the dtype asked for, and memory holds what is stored."""
    coverage = checks.key_coverage(model)
    stored = checks.stored_gap(model)
    record("missing_keys", len(coverage.missing), n=coverage.n_golden, against="module")
    record("unexpected_keys", len(coverage.unexpected), n=coverage.n_golden, against="module")
    record("dtype_violations", checks.dtypes_differing(model), n=coverage.n_golden)
    record("content_changes", stored.n_different, n=stored.n_tensors, against="module")
    assert stored.n_tensors > 0


def test_tied_weights(model, record):
    """Head and embedding are one tensor exactly when the configuration says so."""
    tied = checks.tied(model)
    record("tied_violations", tied.declared != tied.actual, n=1, declared=tied.declared)
    assert model.vocab_rows > 0


@pytest.mark.requires_no_adapter
def test_round_trip(model, record, rng, tmp_path):
    """Saved and loaded again, every tensor is the same bit for bit and so are the logits."""
    trip = checks.round_trip(model, tmp_path / "saved", rng)
    record("round_trip_gap", trip.logit_gap, n=2)
    assert trip.is_identical
