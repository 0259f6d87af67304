"""What a person sees at the end: measurements with nulls, verdicts, the reasons, one line, and where the report is."""

import re

import pytest

CASES = """
import pytest

@pytest.mark.parametrize("k", [1, 5])
def test_a(subject, record, k):
    record("accuracy", 0.9, n=100, ci=(0.8, 0.95), null=("chance", 0.5), k=k)

def test_heads(subject, record):
    for head in range(20):
        record("prefix_matching", head / 20, n=7, head=f"L0.{head}")
    record("prefix_matching", 0.95, n=7, head="best")

def test_odd(subject, record):
    record("loss", 1e-7, n=3, name="[red]:smile:[/]")
"""
POLICY = """
name = "p"
models = ["*"]
[[gate]]
name = "acc"
metric = "accuracy"
min = 0.95
why = "it must be good"
[[gate]]
name = "head"
metric = "prefix_matching"
where.head = "best"
min = 0.5
"""


@pytest.fixture
def shown(suite):
    """shown(*args): the lines of the summary."""
    suite.standard().write("evals/test_probe.py", CASES)
    suite.write("policies/p.toml", POLICY)
    suite.write("conftest.py", "def trialplate_load_model(name, revision, device, dtype):\n    return None\n")

    def run(*args):
        lines = suite.run("evals", "--trialplate-model=m", "--trialplate-device=cpu", *args).outlines
        return [line.rstrip() for line in lines]

    return run


def test_the_header_names_subjects_and_report(shown, suite):
    lines = shown()
    assert "trialplate: m|cpu|float32" in lines
    assert f"report: reports/{suite.latest.name}/report.json" in lines


def test_measurements_are_grouped_by_subject_with_interval_and_null(shown):
    text = "\n".join(shown())
    assert re.search(r"=+ measurements =+\ncase +metric +value +95 % interval +null +n\nm\|cpu\|float32\n", text)
    assert re.search(r"  test_a\[1\] +accuracy +0\.9 +0\.8 \.\. 0\.95 +0\.5 \(chance\) +100\n", text)
    assert re.search(r"loss \(name=\[red\]:smile:\[/\]\) +1e-07 ", text)


def test_a_score_a_head_does_not_fill_pages_and_the_best_comes_first(shown):
    heads = [line for line in shown() if "prefix_matching (" in line]
    assert 1 < len(heads) < 10
    assert "head=best" in heads[0]


def test_verdicts_reasons_and_the_last_lines(shown, suite):
    lines = shown()
    text = "\n".join(lines)
    assert re.search(r"FAIL +acc +accuracy: value >= 0\.95 +0\.9 +100 +0\.9 does not keep value >= 0\.95", text)
    assert re.search(r"PASS +head +prefix_matching: value >= 0\.5 +0\.95 +7", text)
    assert any(
        line.startswith("  - gate acc on m|cpu|float32: FAIL: 0.9 does not keep value >= 0.95") for line in lines
    )
    end = lines.index("pass_all: no — 1 reason")
    assert lines[end + 1] == f"report: reports/{suite.latest.name}/report.json"


def test_a_run_that_passes_says_so_in_one_line(shown, suite):
    suite.write("policies/p.toml", POLICY.replace("0.95", "0.5"))
    assert "pass_all: yes — 6 cases, 24 measurements, 2 gates" in shown()


def test_colours_where_they_are_asked_for(shown):
    text = "\n".join(shown("--color=yes"))
    assert "\x1b[31mFAIL\x1b[0m" in text
    assert re.search("\x1b\\[31m.*pass_all: no", text)


def test_many_reasons_are_cut_and_counted(shown, suite):
    suite.write(
        "evals/test_more.py", "import pytest\n@pytest.mark.parametrize('i', range(30))\ndef test_m(i):\n    assert 0\n"
    )
    lines = shown()
    assert "pass_all: no — 31 reasons" in lines
    assert any(re.fullmatch(r"  - and \d+ more, in the report", line) for line in lines)


def test_a_cp1252_terminal_can_show_it(shown, suite, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = suite.run_alone("evals", "--trialplate-model=m", "--trialplate-device=cpu")
    assert result.ret == 1
    assert "pass_all: no" in result.stdout.str()
