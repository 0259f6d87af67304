"""What each folder of evals costs, beside the budget that it states: CPU seconds of one thread, the start of the process subtracted.

python benchmarks/eval_budgets.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "activations",
    "asa",
    "sae",
    "probes",
    "likelihood",
    "checkpoints",
    "tokenizers",
    "performance",
)  # evals/release only judges


def cpu_seconds(*arguments: str) -> float:
    """CPU seconds of a pytest run in a child process."""
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--report={folder}/run",
            "--no-judge",
            *arguments,
        ]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
    if done.returncode not in (0, 5):
        sys.exit(done.stdout[-3000:] + done.stderr[-1000:])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def stated(folder: str) -> float:
    """The sum of the budgets that the files of a folder state."""
    texts = [p.read_text(encoding="utf-8") for p in (ROOT / "evals" / folder).glob("test_*.py")]
    return sum(float(n) for t in texts for n in re.findall(r"Budget: ([\d.]+) CPU second", t))


def main() -> None:
    """Print the table, and fail if a folder costs more than it says."""
    start = cpu_seconds("evals/tokenizers/test_tokenizer.py::test_ids")  # imports, one load, hardly any work
    print(
        f"| folder | stated, CPU s | measured, CPU s |\n|---|--:|--:|\n| (start: imports and one load) | | {start:.1f} |"
    )
    over = []
    for folder in FOLDERS:
        budget, cost = stated(folder), max(0.0, cpu_seconds(f"evals/{folder}") - start)
        print(f"| `evals/{folder}` | {budget:g} | {cost:.1f} |")
        over += [folder] if cost > budget else []
    if over:
        sys.exit(f"over budget: {', '.join(over)}")


if __name__ == "__main__":
    main()
