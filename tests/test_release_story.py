"""What a release must show: a weak model is refused for its weakness, a GPU run is complete, and published numbers judge the model that bears
their name. Each is a run as a person would type it."""

import json

import pytest
from tests.kill_matrix.inner import EVALS, run_evals

from trialplate.gates.policy import load_policy

PUBLISHED = ("acc", "acc_norm", "perplexity", "loss", "pin_gap")
LIMIT = 4
"""Items a task below: no share of four lies in a published band, so a model that guesses cannot be right by luck."""


def test_the_random_twin_is_measured_and_refused(tmp_path):
    policy = EVALS / "policies" / "embedded.toml"
    report = run_evals(
        tmp_path / "run", ["--model=embedded:neox-random", f"--policy={policy}", "--device=cpu", "--limit=24"]
    )
    assert not report.pass_all
    assert {case.outcome for case in report.cases if not case.gate} == {"passed"}  # weak, and validly so
    status = {v.gate: v.status for v in report.gates}
    probes = {
        "ioi",
        "induction",
        "induction-head",
        "greater-than",
        "sums-to-20",
        "capitals",
        "agreement",
        "minimal-pairs",
    }
    assert {status[name] for name in probes} == {"FAIL"}
    assert all(
        any(reason.startswith(f"gate {name} on embedded:neox-random") for reason in report.reasons) for name in probes
    )
    assert status["causal"] == status["padding"] == status["token-ids"] == "PASS"


class GpuDouble:
    """A machine with a GPU that the CPU plays; remembers which selected cases lack the mark `gpu`."""

    def __init__(self):
        self.selected, self.unmarked = 0, []

    def trialplate_devices(self):
        return {"cpu": "cpu", "cuda": "cpu"}

    def pytest_collection_finish(self, session):
        self.selected = len(session.items)
        self.unmarked = [item.nodeid for item in session.items if not item.get_closest_marker("gpu")]


def test_gpu_cases_are_a_complete_evaluation_of_the_model(tmp_path):
    double = GpuDouble()
    report = run_evals(tmp_path / "run", ["-m", "gpu", "--model=embedded:neox-tiny"], [double])
    assert double.selected >= 100
    assert double.unmarked == []
    assert [s.key for s in report.subjects] == ["embedded:neox-tiny|cuda|float32"]
    assert {v.status for v in report.gates} == {"PASS"}
    assert len(report.gates) == len(load_policy(EVALS / "policies" / "embedded.toml").gates)
    assert report.reasons == ["error: device cuda is played by cpu"]
    assert not report.pass_all


class PythiaShaped:
    """A model of pythia-70m's shape with random weights, under its name."""

    def trialplate_load_model(self, name, revision, device, dtype):
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        from trialplate.models.causal_lm import initialise
        from trialplate.models.resolve import EMBEDDED_FOLDER
        from trialplate.models.tokenizers import load_tokenizer

        config = GPTNeoXConfig(
            hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048, vocab_size=50304
        )
        return initialise(GPTNeoXForCausalLM, config, seed=0), load_tokenizer(EMBEDDED_FOLDER / "neox-tiny")


@pytest.fixture
def data(tmp_path):
    """Made-up texts under the names and in the formats of the public data sets."""
    from trialplate.tasks.probes import formats_samples as made_up

    folder = tmp_path / "data"
    folder.mkdir()
    rows = {
        "lambada_openai": made_up.lambada_rows(LIMIT, 0),
        "piqa": made_up.piqa_rows(LIMIT, 0),
        "arc_easy": made_up.arc_rows(10, 0),
        "sciq": made_up.sciq_rows(LIMIT, 0),
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    pages = "".join(f" = Town {i} = \n \n The town has {i} bridges . \n" for i in range(10))
    (folder / "wikitext2_test.txt").write_text(pages)
    return folder


def test_published_numbers_refuse_a_random_model_of_that_name(tmp_path, data):
    tasks = [f"--task={name}" for name in ("hello_world", "lambada_openai", "piqa", "arc_easy", "sciq", "wikitext2")]
    report = run_evals(
        tmp_path / "run",
        ["--model=pythia-70m", "--device=cpu", f"--data={data}", f"--limit={LIMIT}", *tasks],
        [PythiaShaped()],
        paths=["evals/likelihood", "evals/release"],
    )
    assert not report.pass_all
    published = [v for v in report.gates if v.metric in PUBLISHED]
    assert {v.gate: v.status for v in published} == dict.fromkeys((v.gate for v in published), "FAIL")
    assert {"hello-world-loss", "70m-lambada_openai-acc", "70m-lambada_openai-perplexity", "wikitext2-rolling"} <= {v.gate for v in published}  # fmt: skip
    assert len(published) >= 10
    assert {v.status for v in report.gates if v.metric == "missing_keys"} == {
        "MISSING"
    }  # it was left out, and that is no pass
