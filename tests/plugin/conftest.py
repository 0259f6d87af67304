"""Suites of evals in temporary folders: most tests run one inside this process, and read the report that it wrote.

The modules that a run imports late are imported here: pytester forgets what an inner run imported, and numpy cannot be imported twice.
"""

import json
import os
import subprocess
import textwrap
from pathlib import Path

import numpy  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pytest
import rich.progress
import rich.table  # noqa: F401

import trialplate.models.resolve
import trialplate.plugin.finish
import trialplate.plugin.measured
import trialplate.plugin.parametrize
import trialplate.plugin.progress_bar
import trialplate.plugin.reporting
import trialplate.plugin.rootdir
import trialplate.plugin.start
import trialplate.plugin.terminal
import trialplate.plugin.worker
import trialplate.tasks.requirements
import trialplate.writers.samples
import trialplate.writers.tables  # noqa: F401
from trialplate.report.store import load_run, read_report

INI = """
[pytest]
trialplate_evals = evals
trialplate_policies = policies
"""
PROBE = """
import pytest

@pytest.mark.parametrize("k", [1, 5])
def test_a(record, k):
    record("accuracy", 0.9, n=100, k=k, task="a", samples=[{"item": f"i{k}", "value": 1.0}])

def test_b(record, rng):
    record("loss", 2 + rng.random(), n=10)
"""
GATES = """
import pytest

@pytest.mark.gate
def test_gate(verdict):
    assert verdict.acceptable, verdict.explain()
"""
POLICY = """
name = "p"
models = ["*"]
[[gate]]
name = "acc"
metric = "accuracy"
min = 0.5
covers.k = [1, 5]
[[gate]]
name = "loss"
metric = "loss"
max = 4
"""
PLUGINS = ("-p", "trialplate.plugin", "-p", "pytest_benchmark.plugin", "-p", "xdist.plugin", "-p", "no:cacheprovider")


class Suite:
    """A project with a folder of evals. `write` makes files, `run` and `run_alone` run pytest in it, `report` is what the last run left."""

    def __init__(self, pytester):
        self.pytester, self.path = pytester, pytester.path
        self.write("pytest.ini", INI)

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    def standard(self):
        """Three cases, two gates that they pass."""
        for name, text in (("test_probe.py", PROBE), ("test_gates.py", GATES)):
            self.write(f"evals/{name}", text)
        self.write("policies/p.toml", POLICY)
        return self

    def run(self, *args, plugins=PLUGINS):
        """pytest in this process; `evals` where no argument is given. Returns the result with the exit status as `ret`."""
        args = [*plugins, *(map(str, args) if args else ["evals"])]
        return self.pytester.runpytest_inprocess(*args, no_reraise_ctrlc=True)

    def run_alone(self, *args, timeout=60):
        """pytest in a process of its own."""
        return self.pytester.runpytest_subprocess(*PLUGINS, *(map(str, args) if args else ["evals"]), timeout=timeout)

    def popen(self, *args):
        """pytest started in a process of its own, to be interrupted."""
        command = [*self.pytester._getpytestargs(), *PLUGINS, *args]
        return self.pytester.popen(command, stdin=subprocess.DEVNULL)

    @property
    def latest(self):
        return (self.path / "reports" / "latest").resolve()

    @property
    def runs(self):
        folder = self.path / "reports"
        return sorted(p for p in folder.iterdir() if not p.is_symlink()) if folder.exists() else []

    def report(self, folder=None):
        """The report on the disk, which says the same as its journal; of a run that was killed the journal knows more."""
        folder = Path(folder or self.latest)
        report, folded = read_report(folder / "report.json"), load_run(folder)
        assert report == folded or report.run.state == folded.run.state == "started"
        return folded

    def plain(self, folder=None):
        return json.loads((Path(folder or self.latest) / "report.json").read_text())


@pytest.fixture
def suite(pytester, monkeypatch):
    """An empty project; other plugins of this environment are left out, as far as they are not asked for."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    # a test writes a file twice within one second: its cached bytecode would look current
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    return Suite(pytester)


@pytest.fixture
def results():
    """results(report): what two equal runs have in common: outcomes, measurements, verdicts, reasons."""

    def of(report):
        cases = [(c.id, c.subject, c.outcome, c.reason, c.source, c.gate, c.measured) for c in report.cases]
        return cases, report.measurements, report.gates, report.data, report.reasons, report.pass_all

    return of


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """tiny_model(folder, seed): write a model folder of one layer of width 8 with a byte-level tokenizer; random weights."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.models.gpt_neox import modeling_gpt_neox  # noqa: F401  (imported before any inner run)

    from trialplate.models.causal_lm import initialise

    alphabet = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    config = transformers.GPTNeoXConfig(
        vocab_size=len(alphabet), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip

    def write(folder, seed=0):
        folder.mkdir(exist_ok=True)
        tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        initialise(transformers.GPTNeoXForCausalLM, config, seed).save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    write(tmp_path_factory.mktemp("warm"))
    return write
