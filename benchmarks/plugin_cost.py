"""What the plugin costs those who do not use it, and what recording costs those who do. CPU seconds of child processes, least of several.

    python benchmarks/plugin_cost.py

Two budgets: under 0.05 s on a suite that does not use the plugin, under 1 ms a recording case. Over budget is exit status 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPEAT = 7
CASES = 10_000
MOST_S, MOST_MS = 0.05, 1.0
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "matplotlib", "msgspec", "rich", "pyarrow")
COUNT = f"""
import atexit, sys
atexit.register(lambda: print("MODULES", len(sys.modules), *sorted({{m.split(".")[0] for m in sys.modules}} & set({HEAVY!r}))))
"""
TRIVIAL = "import pytest\n@pytest.mark.parametrize('i', range({n}))\ndef test_x(i{fixture}):\n    {body}\n"
# the other plugins of a development environment are left out on both sides
OTHERS = ("benchmark", "xdist", "cov", "jaxtyping", "timeout", "hypothesispytest", "anyio", "cacheprovider")


def cpu(folder: Path, *arguments: str) -> tuple[float, str]:
    """(CPU seconds, output) of one pytest run."""
    before = os.times()
    blocked = [word for name in OTHERS for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *blocked, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode not in (0, 5):
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return after.children_user + after.children_system - before.children_user - before.children_system, done.stdout


def unused(folder: Path) -> list[tuple[str, float, float, str, str]]:
    """(command, CPU s without the plugin, with it, modules without, with), taken in turns so that load falls on both."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    rows = []
    for arguments in (("--collect-only",), ("--help",)):
        pairs = [(cpu(folder, *arguments, "-p", "no:trialplate")[0], cpu(folder, *arguments)[0]) for _ in range(REPEAT)]
        (folder / "conftest.py").write_text(COUNT)
        modules = [modules_of(cpu(folder, *arguments, *block)[1]) for block in (("-p", "no:trialplate"), ())]
        (folder / "conftest.py").unlink()
        bare, with_it = (min(pair[i] for pair in pairs) for i in (0, 1))
        rows.append((f"pytest {arguments[0]}", bare, with_it, modules[0], modules[1]))
    return rows


def modules_of(output: str) -> str:
    """Number of modules that were imported, and the heavy ones among them."""
    line = next(line for line in output.splitlines() if line.startswith("MODULES"))
    count, *heavy = line.removeprefix("MODULES ").split()
    return f"{count} ({', '.join(heavy) or 'none heavy'})"


def recording(folder: Path) -> tuple[float, float]:
    """CPU seconds of many cases that do nothing, and of as many that record one number, judged by a gate."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_bare.py").write_text(TRIVIAL.format(n=CASES, fixture="", body="pass"))
    body = "record('accuracy', 0.5, n=10)"
    (folder / "test_recording.py").write_text(TRIVIAL.format(n=CASES, fixture=", record", body=body))
    gate = '[[gate]]\nname = "a"\nmetric = "accuracy"\nmin = 0.4\n'
    (folder / "policy.toml").write_text(f'name = "p"\nmodels = ["*"]\n{gate}')
    bare = ours = float("inf")
    for n in range(3):
        bare = min(bare, cpu(folder, "test_bare.py", "-p", "no:trialplate")[0])
        asked = f"--trialplate-report=run{n}", "--trialplate-policy=policy.toml"
        ours = min(ours, cpu(folder, "test_recording.py", *asked)[0])
    return bare, ours


def main() -> None:
    """Print both tables, and fail if either budget is exceeded."""
    with tempfile.TemporaryDirectory() as name:
        idle = unused(Path(name))
    print("| on an empty suite | bare, CPU s | with the plugin | difference | modules bare | with the plugin |")
    print("|---|--:|--:|--:|---|---|")
    for command, bare, with_it, before, after in idle:
        print(f"| `{command}` | {bare:.3f} | {with_it:.3f} | {with_it - bare:.3f} | {before} | {after} |")
    with tempfile.TemporaryDirectory() as name:
        bare, ours = recording(Path(name))
    each = 1000 * (ours - bare) / CASES
    print(f"\n| {CASES:,} cases | CPU s | ms a case over bare pytest |\n|---|--:|--:|")
    print(f"| that do nothing, without the plugin | {bare:.2f} | |")
    print(f"| that record one number, with a report and a gate | {ours:.2f} | {each:.3f} |")
    if any(with_it - before >= MOST_S for _, before, with_it, *_ in idle) or each >= MOST_MS:
        sys.exit(f"over budget: {MOST_S} s on a suite that does not use the plugin, {MOST_MS} ms a case")


if __name__ == "__main__":
    main()
