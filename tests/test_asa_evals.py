"""What the evals of Addressed State Models rest on: rows of whole documents, their bits, the writes that a text can tell apart, sabotages that
are caught; and what those evals are not: a verdict on other models."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evals.asa import rows as held_out
from evals.asa.test_chunk_dependence import alternatives
from evals.asa.test_refinement import intervening, randomly_turned, turned_at_random
from tests.kill_matrix.bench import Bench
from tests.kill_matrix.inner import EVALS, run_evals
from tests.kill_matrix.sabotage import ASM
from tests.kill_matrix.sabotages.addressed import SABOTAGES
from tests.kill_matrix.verdicts import Judge, judging_functions

from asa.asm_lm import build_model_from_cfg
from asa.config import ASMTrainConfig
from trialplate.gates.policy import load_policy

NAMED = {s.name: s for s in SABOTAGES}


class Letters:
    """A tokenizer of characters; 0 closes a document."""

    def encode(self, text):
        return [1 + ord(letter) % 60 for letter in text]


@pytest.fixture(scope="module")
def rows():
    model = SimpleNamespace(max_length=256, prefix_id=0, tokenizer=Letters(), device=torch.device("cpu"))
    return held_out.held_out_rows(model, 3)


@pytest.fixture(scope="module")
def lm():
    cfg = ASMTrainConfig(vocab_size=61, embed_dim=16, num_layers=2, num_heads=2, num_slots=4, max_seq_len=256,
                         slotspace_dim=4, slotspace_gate_init=0.0, write_chunk_size=8)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = build_model_from_cfg(cfg).eval().requires_grad_(False)
    for layer in found.layers:  # as drawn, the refinement is too small to matter
        layer.slot_in.weight *= 50
        layer.slot_v.weight *= 50
        layer.slot_out.weight *= 50
    return found


@pytest.mark.fast
def test_a_row_holds_whole_documents_and_says_their_bytes(rows):
    for (ids, real), n_bytes in zip(rows, rows.n_bytes, strict=True):
        found = ids[real].tolist()
        assert (found[0], found[-1]) == (0, 0)
        assert n_bytes == sum(token != 0 for token in found)  # ASCII: one byte a letter
        assert not ids[~real].any()
    assert rows.is_real.sum(1).min() > 128
    assert len({tuple(ids.tolist()) for ids, _ in rows}) == 3


@pytest.mark.fast
def test_nats_are_those_of_real_tokens_after_the_first(rows):
    uniform = torch.zeros(3, 256, 61)
    expected = (rows.is_real.sum(1) - 1).numpy() * math.log(61)
    assert held_out.nats(uniform, rows) == pytest.approx(expected)
    assert held_out.per_byte(expected, rows).value == pytest.approx(expected.sum() / rows.n_bytes.sum() / math.log(2))
    assert held_out.nats(uniform[:1], rows.first(1)) == pytest.approx(expected[:1])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("mode", "chunk", "expected"),
    [
        ("reference", 16, {"other mode": "exact", "half chunk": 8, "double chunk": 32}),
        ("reference", 64, {"other mode": "exact", "half chunk": 32}),
        ("reference", 0, {"other mode": "exact", "half chunk": 32}),
        ("exact", 16, {"other mode": "reference", "half chunk": 8, "double chunk": 32}),
    ],
)
def test_the_writes_that_a_text_of_64_tokens_can_tell_from_the_own_one(mode, chunk, expected):
    found = alternatives(SimpleNamespace(write_mode=mode, write_chunk_size=chunk), 64)
    assert {name: next(iter(changed.values())) for name, changed in found.items()} == expected


def test_turning_refinements_at_random_keeps_their_length_and_is_undone(lm, rows):
    delta = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(1))
    turned = randomly_turned(delta, torch.Generator().manual_seed(2))
    assert torch.allclose(turned.norm(dim=-1), delta.norm(dim=-1))
    assert torch.nn.functional.cosine_similarity(turned, delta, dim=-1).abs().mean() < 0.9
    model, how = intervening(lm), {"return_info": True, "info_level": "basic", "info_cfg": {"store_delta": True}}
    with torch.no_grad():
        before, _ = model(rows.ids, **how)
        with turned_at_random(model, torch.Generator().manual_seed(2)):
            within, _ = model(rows.ids, **how)
        after, _ = model(rows.ids, **how)
    assert torch.allclose(before, lm(rows.ids), atol=1e-5)
    assert not torch.allclose(before, within, atol=1e-4)
    assert torch.equal(before, after)


def test_of_another_architecture_none_is_collected(tmp_path):
    report = run_evals(
        tmp_path / "run", ["--model=embedded:neox-tiny", "--device=cpu", "--no-judge", "-k", "asa or vocabulary"]
    )
    asa = [n for n in report.not_collected if n.case.startswith("asa/")]
    assert {n.reason for n in asa} == {"is for models of type asm, embedded:neox-tiny is of type gpt_neox"}
    assert {n.case.partition("[")[0].replace("/test_", "/").split("::")[1] for n in asa} == {
        name.split("/")[1] for name in judging_functions(["evals/asa"])
    }
    assert not [c for c in report.cases if c.id.startswith("asa/")]


def test_the_random_twin_is_measured_and_refused(tmp_path):
    policy = EVALS / "policies" / "embedded-asm.toml"
    report = run_evals(
        tmp_path / "run",
        ["--model=embedded:asm-random", f"--policy={policy}", "--device=cpu", "--limit=8"],
        paths=[f"evals/{folder}" for folder in ("asa", "checkpoints", "likelihood", "probes/test_facts.py", "release")],
    )
    assert not report.pass_all
    assert {case.outcome for case in report.cases if not case.gate} == {"passed"}  # weak, and validly so
    status = {v.gate: v.status for v in report.gates}
    assert {status[name] for name in LEARNT} == {"FAIL"}
    assert {status[name] for name in ("causal", "padding", "decoding", "baseline")} == {"PASS"}


LEARNT = (
    "bits-per-byte",
    "capitals",
    "another-write-costs",
    "reads-differ-between-slots",
    "choice-of-slots",
    "refinement-size",
    "refinement-lost",
    "paris-contrast",
)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A few quick evals of the embedded model, unbroken."""
    paths = ("evals/asa/test_fingerprint.py", "evals/asa/test_borders.py", "evals/asa/test_chunk_dependence.py")
    return Judge(Bench(tmp_path_factory.mktemp("bench"), paths, subject=ASM))


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("rope-corrected", {"asa/test_fingerprint"}),
        ("chunk-doubled", {"asa/test_fingerprint", "asa/test_own_chunk_is_best"}),
        ("next-chunk-seen", {"asa/test_causality_across_borders"}),
        ("never-folded", {"asa/test_decoding_across_borders"}),
    ],
)
def test_a_sabotage_is_caught(name, by, judge):
    row = judge.row(NAMED[name])
    assert by <= set(row.caught)
    assert not row.refused


@pytest.mark.fast
def test_the_policy_has_a_gate_for_every_metric_that_only_these_evals_record():
    gated = {g.metric for g in load_policy(EVALS / "policies" / "embedded-asm.toml").gates}
    assert gated >= {
        "fingerprint_gap", "bits_per_byte_cost", "read_sharpness", "top1_frequency", "slots_ever_chosen", "knockout_cost",
        "refinement_size", "refinement_cost", "paris_contrast", "baseline_gap",
    }  # fmt: skip


@pytest.mark.fast
def test_every_way_to_misread_a_checkpoint_is_among_the_sabotages():
    assert {
        "rope-corrected",
        "chunk-doubled",
        "exact-mode",
        "gate-dropped",
        "slots-permuted",
        "slot-keys-renamed",
        "alibi-flipped",
    } <= set(NAMED)
    assert {s.subject for s in SABOTAGES} == {ASM}
    assert np.all([s.text.endswith(".") for s in SABOTAGES])


@pytest.mark.fast
def test_what_the_model_cannot_do_is_measured_and_not_gated():
    tasks = {g.where.get("task") for g in load_policy(EVALS / "policies" / "embedded-asm.toml").gates}
    assert not tasks & {"arithmetic_99", "fixed_text", "induction_words", "induction_any", "paris_margin_notebook"}
    assert tasks >= {
        "ioi",
        "greater_than",
        "arithmetic_20",
        "capitals",
        "capitals_held_out",
        "agreement",
        "paris_margin",
    }
