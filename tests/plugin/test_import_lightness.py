"""Every pytest run on a machine that has the plugin pays for its import: it brings nothing heavy, and the check for that can fail."""

import subprocess
import sys
import textwrap

import pytest

HEAVY = (
    "torch",
    "numpy",
    "pandas",
    "transformers",
    "matplotlib",
    "msgspec",
    "scipy",
    "pyarrow",
    "tokenizers",
    "safetensors",
    "rich",
)
POISON = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None  # an import of it raises ImportError
"""
RUN = POISON + "import pytest\nsys.exit(pytest.main(sys.argv[1:]))\n"


def poisoned(suite, *args):
    """pytest in a process in which nothing heavy can be imported; other plugins are left out."""
    command = [sys.executable, "-c", RUN, "-p", "trialplate.plugin", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=60, check=False)


def test_importing_the_plugin_imports_nothing_heavy():
    code = POISON + "import trialplate.plugin\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("args", [["--help"], ["tests"], ["--collect-only", "."], ["tests", "--markers"]], ids=" ".join)
def test_a_suite_that_does_not_use_us_imports_nothing_heavy(suite, args):
    suite.write("tests/test_x.py", "def test_x():\n    pass\n")
    done = poisoned(suite, *args)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_worker_of_a_suite_that_does_not_use_us_imports_nothing_heavy(suite):
    look = f"import sys\ndef test_x():\n    assert not set(sys.modules) & set({HEAVY!r})\n    assert 'PYTEST_XDIST_WORKER' in __import__('os').environ\n"
    suite.write("tests/test_x.py", look)
    assert suite.run("tests", "-n", "1").ret == 0


@pytest.mark.parametrize("module", HEAVY[:6])
def test_the_poison_is_noticed(suite, module):
    """A conftest that imports what we must not: the runs above would have failed."""
    suite.write("conftest.py", f"import {module}\n")
    suite.write("tests/test_x.py", "def test_x():\n    pass\n")
    done = poisoned(suite, "tests")
    assert done.returncode != 0
    assert f"{module}" in done.stdout + done.stderr


def test_a_run_with_a_report_does_import_what_it_needs(suite):
    """msgspec reads and writes every report; poisoned, a report cannot even begin."""
    suite.standard()
    done = poisoned(suite, "evals")
    assert "import of msgspec halted" in done.stdout + done.stderr


def test_measuring_without_a_model_needs_neither_torch_nor_numpy(suite):
    code = textwrap.dedent(RUN).replace('"msgspec", ', "").replace("'msgspec', ", "").replace(", 'rich'", "")
    suite.standard().write(
        "evals/test_probe.py",
        "def test_a(record):\n    record('accuracy', 1, n=1, k=1)\n    record('accuracy', 1, n=1, k=5)\n    record('loss', 1, n=1)\n",
    )
    command = [sys.executable, "-c", code, "-p", "trialplate.plugin", "-p", "no:cacheprovider", "evals"]
    done = subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert suite.report().pass_all
