"""Release gates: one case a (gate, subject). They measure nothing and judge what the other cases measured. Budget: 1 CPU second."""

import pytest


@pytest.mark.gate
def test_gate(verdict):
    """Only PASS passes; FAIL, UNDECIDED, MISSING, THIN, STALE and INVALID do not. The bounds are in evals/policies/*.toml."""
    if not verdict.acceptable:
        pytest.fail(verdict.explain(), pytrace=False)
