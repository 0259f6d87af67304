"""Which commands measure a coder with the packages of SAEBench and CE-Bench, and what a run of them leaves: `external.json`.

The packages pin libraries that exclude ours (sae-bench 0.6 wants numpy below 2), so they live in an environment of their own, named by its
interpreter. A coder reaches them as a SAELens folder; a script of `children` hands it over."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialplate.sae.errors import StudyError
from trialplate.sae.programs.external import Command, Done, argv_of, exit_status, run_commands, verdict
from trialplate.sae.programs.runs import StudyRun

CHILDREN = Path(__file__).parent / "children"
BENCHMARKS = ("saebench_core", "saebench_probing", "cebench")
_SAEBENCH = ("sae_lens", "sae_bench", "transformer_lens")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class OfficialOptions:
    """What to run, and how.

    benchmarks   names of BENCHMARKS that are run on `checkpoint`, a SAELens folder
    model_name, hook_name   the model and the place as TransformerLens calls them; the packages read activations themselves
    commands     further commands, by name, as text: see `external.argv_of`
    python       the interpreter that has the packages;  cebench   a clone of CE-Bench's repository;  pairs   local pairs for it (JSON Lines)
    execute      otherwise a dry run;  timeout   seconds a command;  online   let the children reach the hub"""

    checkpoint: Path | None = None
    model_name: str = ""
    hook_name: str = ""
    benchmarks: tuple[str, ...] = BENCHMARKS
    commands: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    cebench: Path | None = None
    pairs: Path | None = None
    device: str = "cpu"
    seed: int = 42
    execute: bool = False
    timeout: float = 3600.0
    online: bool = False

    def config(self) -> dict[str, Any]:
        """What was asked, without the places that only this machine has."""
        names = ("model_name", "hook_name", "benchmarks", "seed", "execute", "timeout", "online")
        return {**{name: getattr(self, name) for name in names}, "commands": sorted(self.commands)}

    def subject(self) -> dict[str, str]:
        """What the results are about: the coder by content, and the commands given as text by theirs. CoderError where the coder cannot be read."""
        from trialplate.sae.formats import coder_digest, load_coder

        coder = {} if self.checkpoint is None else {"coder": coder_digest(load_coder(self.checkpoint))}
        texts = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.commands.items()}
        return {**coder, **{f"command {name}": digest for name, digest in texts.items()}, "model": self.model_name}


def commands_of(options: OfficialOptions) -> list[Command]:
    """The commands, in order: benchmarks of the checkpoint, then those given as text. StudyError for options that name nothing to run."""
    if unknown := [name for name in options.benchmarks if name not in BENCHMARKS]:
        raise StudyError(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    given = [Command(name, argv_of(text)) for name, text in options.commands.items()]
    asked = [name for name in options.benchmarks if name not in options.commands]
    if options.checkpoint is None:
        if not given:
            raise StudyError("nothing to run: give --checkpoint FOLDER, or a command as text")
        return given
    if asked and not (options.model_name and options.hook_name):
        raise StudyError(
            "the packages read activations themselves, so they need --model-name and --hook-name as TransformerLens has them "
            "(pythia-70m-deduped, blocks.3.hook_resid_post)"
        )
    return [*(_command(name, options) for name in asked), *given]


def run_external(options: OfficialOptions, run: StudyRun) -> dict[str, Any]:
    """Look at every command, run them if asked to, and note each step with its log. The result has `status` (planned, passed, failed, skipped),
    `exit_status` (the worst of the commands) and a row a command. What they write stays under `results/` of the run."""
    commands = commands_of(options)
    (run.path / "results").mkdir()
    with tempfile.TemporaryDirectory() as logs:
        done = run_commands(
            commands,
            run.path,
            Path(logs),
            execute=options.execute,
            timeout=options.timeout,
            environment={} if options.online else _OFFLINE,
        )
        for one in done:
            if one.ran:
                text = (Path(logs) / f"{one.name}.log").read_text(encoding="utf-8", errors="backslashreplace")
                run.step(one.name, one.argv, one.returncode if one.returncode is not None else 124, text, one.seconds)
    if not any((run.path / "results").iterdir()):
        (run.path / "results").rmdir()
    return {
        "status": verdict(done, options.execute),
        "exit_status": exit_status(done, options.execute),
        "executed": options.execute,
        "network": options.online,
        "commands": [_row(one) for one in done],
    }


def external_summary(result: Mapping[str, Any], commands: Sequence[Command]) -> str:
    """The result in Markdown, with every argument vector as it was or would be run."""
    lines = [
        "# Official benchmark packages",
        "",
        f"Status: **{result['status']}** (exit status {result['exit_status']}).",
        "",
    ]
    lines += ["| command | status | return code | seconds | note |", "|---|---|---|---|---|"]
    for row in result["commands"]:
        shown = [row["name"], row["status"], row["returncode"], row["seconds"], row["note"]]
        lines.append("| " + " | ".join("" if cell is None else str(cell).replace("|", "\\|") for cell in shown) + " |")
    lines += ["", *(f"    {command.name}: {list(command.argv)}" for command in commands)]
    return "\n".join(lines)


def _row(one: Done) -> dict[str, Any]:
    names = ("name", "status", "note", "returncode", "seconds", "written")
    return {name: getattr(one, name) for name in names}


def _command(name: str, options: OfficialOptions) -> Command:
    coder = str(Path(str(options.checkpoint)).resolve())
    common = ("--checkpoint", coder, "--model-name", options.model_name, "--hook-name", options.hook_name)
    asked = (*common, "--device", options.device)
    files = (f"{coder}/cfg.json", f"{coder}/sae_weights.safetensors")
    if name == "cebench":
        return _cebench(asked, files, options)
    kind = {"saebench_core": "core", "saebench_probing": "sparse_probing"}[name]
    script, output = str(CHILDREN / "saebench_local.py"), f"results/{name}"
    argv = (options.python, script, kind, *asked, "--output", output, "--seed", str(options.seed))
    needs = (*_SAEBENCH, "sae_probes") if kind == "sparse_probing" else _SAEBENCH
    return Command(name, argv, needs, files, f"{output}/**/*eval_results.json")


def _cebench(asked: tuple[str, ...], files: tuple[str, ...], options: OfficialOptions) -> Command:
    repository = "" if options.cebench is None else str(options.cebench.resolve())
    bench = f"{repository}/ce_bench/CE_Bench.py" if repository else "clone of CE-Bench: name it by --cebench-repository"
    argv = (options.python, str(CHILDREN / "cebench_local.py"), "--repository", repository, *asked)
    pairs = () if options.pairs is None else ("--pairs", str(options.pairs.resolve()))
    return Command(
        "cebench", (*argv, *pairs), (*_SAEBENCH, "datasets"), (*files, bench), "interpretability_eval/**/results.json"
    )
