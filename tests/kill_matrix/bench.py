"""Runs the evals again and again in this process: the same cases on few items, once as they are and once under each sabotage."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.kill_matrix.inner import ROOT, run_evals
from tests.kill_matrix.sabotage import SUBJECT, Sabotage, Scene

from trialplate.report.model import Report

LIMIT = 32
"""Items a case."""


class BenchError(Exception):
    """The run without any fault is not green: there is nothing to compare with."""


class Bench:
    """A folder with what the runs of one subject need, and the report of the run without any fault.

    `paths` are the evals that run, relative to the repository root; all of them by default."""

    def __init__(self, folder: Path, paths: tuple[str, ...] = ("evals",), subject: str = SUBJECT) -> None:
        self.folder, self.paths, self.subject = folder, paths, subject
        self._data, self._golden = folder / "data", folder / "golden"
        folder.mkdir(exist_ok=True)
        _write_data(self._data)
        _write_golden(self._golden, self._data, subject)
        self.baseline = self._run(folder / "baseline")
        if red := [f"{c.id}: {c.reason}" for c in self.baseline.cases if c.outcome != "passed"]:
            raise BenchError(f"without any fault, {len(red)} cases do not pass, the first: {red[0]}")

    def under(self, sabotage: Sabotage) -> Report:
        """The report of the same cases under a sabotage; afterwards everything is as before."""
        with (
            tempfile.TemporaryDirectory(prefix=f"{sabotage.name}-", dir=self.folder) as place,
            sabotage.apply(Scene(Path(place), self.baseline)),
        ):
            return self._run(Path(place) / "report")

    def _run(self, report: Path) -> Report:
        arguments = [
            f"--model={self.subject}", "--device=cpu", f"--limit={LIMIT}", "--no-judge", f"--data={self._data}", f"--trialplate-golden={self._golden}"
        ]  # fmt: skip
        return run_evals(report, arguments, paths=self.paths)


def _write_data(folder: Path) -> None:
    """The shipped data, with made-up texts where the public sets would be: evals of those sets run too."""
    from trialplate.tasks.corpus import heldout_documents

    shutil.copytree(ROOT / "data", folder)
    shutil.copy(folder / "samples" / "arc_easy.jsonl", folder / "arc_easy.jsonl")
    documents = iter(heldout_documents(200, seed=7))
    pages = [f" = Page {i} = \n\n" + "\n".join(next(documents) for _ in range(20)) + "\n" for i in range(10)]
    (folder / "wikitext2_test.txt").write_text("".join(pages), encoding="utf-8")


def _write_golden(folder: Path, data: Path, subject: str) -> None:
    """The golden values, with this model's own scores of the made-up texts where published ones would be."""
    from trialplate.models.load import load
    from trialplate.models.spec import ModelSpec
    from trialplate.scoring import Scorer
    from trialplate.tasks.formats import read_arc
    from trialplate.tasks.wikitext import detokenise, split_pages

    scorer = Scorer(load(ModelSpec(subject)))
    questions = read_arc(data / "arc_easy.jsonl")[:10]
    pages = split_pages((data / "wikitext2_test.txt").read_text(encoding="utf-8"))[:10]
    pins = {
        "choices": scorer.loglikelihood([(q.context, c) for q in questions for c in q.choices]),
        "rolling": scorer.rolling([detokenise(page) for page in pages]),
    }
    shutil.copytree(ROOT / "golden", folder)
    published = json.loads((folder / "published.json").read_text(encoding="utf-8"))
    published["pins"] += [
        {"kind": kind, "model": subject, "revision": "main", "of": "made-up texts", "values": [s.logprob for s in scores],
         "tolerance": 0.01, "source": "the run without any fault"}
        for kind, scores in pins.items()
    ]  # fmt: skip
    (folder / "published.json").write_text(json.dumps(published), encoding="utf-8")
