"""What a coder must show before it is released: one that learned nothing misses every gate on what is learned, and is a coder all the same."""

import torch
from tests.kill_matrix.inner import EVALS, run_evals

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.formats import saelens

LEARNED = {"reconstruction", "predictions", "distributions"}
PATHS = (
    "evals/sae/test_reconstruction.py",
    "evals/sae/test_preservation.py",
    "evals/sae/test_files.py",
    "evals/release",
)


def test_a_random_coder_fails_every_gate_on_what_is_learned(tmp_path):
    config = CoderConfig("topk", 128, 256, k=8, site_in="L2.resid_post", site_out="L2.resid_post", model="neox-tiny")
    saelens.write(initialise(Coder(config), torch.Generator().manual_seed(0)), tmp_path / "random")
    policy = EVALS / "policies-sae" / "coder.toml"
    report = run_evals(
        tmp_path / "run",
        [
            "--model=embedded:neox-tiny",
            f"--sae={tmp_path / 'random'}",
            f"--policy={policy}",
            "--device=cpu",
            "--limit=12",
        ],
        paths=PATHS,
    )
    assert not report.pass_all
    status = {v.gate: v.status for v in report.gates if v.policy == "coder" and v.required}
    assert {name for name, found in status.items() if found == "FAIL"} == LEARNED
    assert {found for name, found in status.items() if name not in LEARNED} == {"PASS"}
    assert {case.outcome for case in report.cases if not case.gate} == {"passed"}
