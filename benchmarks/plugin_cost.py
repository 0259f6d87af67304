"""What the plugin costs those who do not use it, and what recording costs those who do. CPU seconds of child processes, least of several.

    python benchmarks/plugin_cost.py

Two budgets: under 0.05 s on a suite that does not use the plugin, under 1 ms a recording case. Over budget is exit status 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPEAT = 7
CASES = 10_000
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "matplotlib", "msgspec", "rich", "pyarrow")
COUNT = f"""
import atexit, sys
atexit.register(lambda: print("MODULES", len(sys.modules), *sorted({{m.split(".")[0] for m in sys.modules}} & set({HEAVY!r}))))
"""
TRIVIAL = "import pytest\n@pytest.mark.parametrize('i', range({n}))\ndef test_x(i{fixture}):\n    {body}\n"
# the other plugins of a development environment are left out on both sides
BARE = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:benchmark",
    "-p",
    "no:xdist",
    "-p",
    "no:cov",
    "-p",
    "no:jaxtyping",
    "-p",
    "no:timeout",
)
OTHERS = ("-p", "no:hypothesispytest", "-p", "no:anyio")


def cpu(folder: Path, *arguments: str) -> tuple[float, str]:
    """(CPU seconds, output) of one pytest run."""
    before = os.times()
    command = [sys.executable, "-m", "pytest", "-q", *BARE, *OTHERS, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode not in (0, 5):
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return after.children_user + after.children_system - before.children_user - before.children_system, done.stdout


def least(folder: Path, *arguments: str, repeat: int = REPEAT) -> float:
    """Least CPU seconds of several runs."""
    return min(cpu(folder, *arguments)[0] for _ in range(repeat))


def unused(folder: Path) -> dict[str, float | str]:
    """An empty suite and --help, with the plugin and without it, taken in turns so that load falls on both."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    found: dict[str, float | str] = {}
    for name, arguments in (("collect", ("--collect-only",)), ("help", ("--help",))):
        pairs = [(cpu(folder, *arguments, "-p", "no:trialplate")[0], cpu(folder, *arguments)[0]) for _ in range(REPEAT)]
        found[f"{name} bare, s"], found[f"{name} with, s"] = (round(min(p[i] for p in pairs), 3) for i in (0, 1))
    (folder / "conftest.py").write_text(COUNT)
    for name, arguments in (("bare", ("-p", "no:trialplate")), ("with", ())):
        line = next(x for x in cpu(folder, "--collect-only", *arguments)[1].splitlines() if x.startswith("MODULES"))
        found[f"modules {name}"] = line.removeprefix("MODULES ")
    return found


def recording(folder: Path) -> dict[str, float]:
    """Ten thousand cases that record one number, against as many that do nothing."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_bare.py").write_text(TRIVIAL.format(n=CASES, fixture="", body="pass"))
    (folder / "test_recording.py").write_text(
        TRIVIAL.format(n=CASES, fixture=", record", body="record('accuracy', 0.5, n=10)")
    )
    (folder / "policy.toml").write_text(
        'name = "p"\nmodels = ["*"]\n[[gate]]\nname = "a"\nmetric = "accuracy"\nmin = 0.4\n'
    )
    bare = least(folder, "test_bare.py", "-p", "no:trialplate", repeat=3)
    runs = iter(range(100))
    ours = min(
        cpu(folder, "test_recording.py", f"--trialplate-report=run{next(runs)}", "--trialplate-policy=policy.toml")[0]
        for _ in range(3)
    )
    return {
        "bare, s": round(bare, 2),
        "recording, s": round(ours, 2),
        "ms a case": round(1000 * (ours - bare) / CASES, 3),
    }


def main() -> None:
    """Print both tables as JSON lines."""
    with tempfile.TemporaryDirectory() as name:
        idle = unused(Path(name))
    with tempfile.TemporaryDirectory() as name:
        used = recording(Path(name))
    print(json.dumps({"suite that does not use it": idle}, indent=1))
    print(json.dumps({f"{CASES} recording cases": used}, indent=1))
    extra = float(idle["collect with, s"]) - float(idle["collect bare, s"])
    print(f"cost: {extra:.3f} s (budget 0.05), {used['ms a case']} ms a case (budget 1)")
    if extra >= 0.05 or used["ms a case"] >= 1:
        sys.exit("over budget")


if __name__ == "__main__":
    main()
