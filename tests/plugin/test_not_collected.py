"""What does not apply to a model, and what cannot run here, is not collected, and the report says why: a skip always means absence."""

import pytest

CASES = """
import pytest

@pytest.mark.requires_data("text.txt")
def test_d(record):
    record("loss", 1, n=1)

def test_a(record):
    record("accuracy", 0.9, n=9)
"""
FOR_MODEL = """
import pytest

@pytest.mark.requires_tokens("single_token_names")
def test_tokens(subject, record):
    record("loss", 1, n=1)

@pytest.mark.requires_golden("keys")
def test_golden(subject, record):
    record("loss", 1, n=1)

@pytest.mark.requires_files
def test_files(subject, record):
    record("loss", 1, n=1)

def test_a(subject, record):
    record("accuracy", 0.9, n=9)
"""
POLICY = "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'loss'\nmetric = 'loss'\nmax = 4\n"


def left_out(report):
    return {n.case.partition("::")[2].partition("[")[0]: n.reason for n in report.not_collected}


@pytest.mark.parametrize("n", [0, 1])
def test_data_that_is_not_there(suite, n):
    suite.standard().write("evals/test_probe.py", CASES)
    suite.write("policies/p.toml", POLICY)
    result = suite.run("evals", "-n", n)
    assert result.ret == 1
    report = suite.report()
    why = "needs text.txt in the data folder (docs/data.md, --data DIR)"
    assert left_out(report) == {"test_d": why}
    assert all("test_d" not in c.id for c in report.cases)
    assert report.reasons == [
        f"gate loss on (no model): MISSING: no measurement of loss; 1 cases of this subject were not collected ({why})"
    ]
    result.stdout.fnmatch_lines([f"  not collected: {why} (1 cases)"])
    suite.write("data/text.txt", "here it is")
    assert suite.run("evals", "-n", n).ret == 0
    suite.write("more/text.txt", "here too")
    (suite.path / "data/text.txt").unlink()
    assert suite.run("evals", "-n", n, "--trialplate-data=more").ret == 0


def test_tokens_golden_values_and_files(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", FOR_MODEL)
    suite.write("policies/p.toml", POLICY)
    folder = suite.path / "tiny"
    folder.mkdir()
    tiny_model(folder)
    args = "evals", f"--trialplate-model={folder}", "--trialplate-device=cpu"
    suite.run(*args)
    found = left_out(suite.report())
    assert set(found) == {"test_tokens", "test_golden"}
    assert found["test_golden"] == f"no golden keys of {folder}; record them with --golden-update"
    suite.run(*args, "--trialplate-golden-update")
    assert set(left_out(suite.report())) == {"test_tokens"}


def test_a_model_in_memory_has_no_files(suite):
    suite.standard().write("evals/test_probe.py", FOR_MODEL)
    suite.run("evals", "--trialplate-model=embedded:neox-random", "--trialplate-device=cpu", "-k", "files")
    assert left_out(suite.report()) == {"test_files": "the weights of embedded:neox-random come from no file"}


def test_a_case_for_models_without_an_adapter(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", FOR_MODEL.replace("requires_files", "requires_no_adapter"))
    for name in ("tiny", "adapter"):
        (suite.path / name).mkdir()
    suite.write("adapter/adapter_config.json", "{}")
    args = "evals", f"--trialplate-model={tiny_model(suite.path / 'tiny')}", "--trialplate-device=cpu", "-k", "files"
    suite.run(*args, "--trialplate-adapter=adapter")
    assert left_out(suite.report()) == {"test_files": "does not apply to a model with an adapter"}
    suite.run(*args)
    assert left_out(suite.report()) == {}


def test_a_case_without_a_model_cannot_ask_for_its_tokens(suite):
    suite.standard().write("evals/test_probe.py", FOR_MODEL.replace("subject, ", ""))
    result = suite.run("evals", "-k", "tokens")
    assert result.ret == 4
    assert (
        "test_tokens: marked requires_tokens, and it uses no model; let it use `subject` or `model`"
        in result.stderr.str()
    )


def test_a_misspelt_requirement_is_a_usage_error(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", FOR_MODEL.replace("single_token_names", "single_token_name"))
    (suite.path / "tiny").mkdir()
    result = suite.run("evals", f"--trialplate-model={tiny_model(suite.path / 'tiny')}", "--trialplate-device=cpu")
    assert result.ret == 4
    assert "requires_tokens('single_token_name'): not known; did you mean 'single_token_names'?" in result.stderr.str()


def test_a_tokenizer_that_cannot_be_read_is_a_usage_error(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", FOR_MODEL)
    (suite.path / "tiny").mkdir()
    (tiny_model(suite.path / "tiny") / "tokenizer.json").unlink()
    result = suite.run("evals", "--trialplate-model=./tiny", "--trialplate-device=cpu")
    assert result.ret == 4
    assert "no tokenizer in tiny: wanted tokenizer.json" in result.stderr.str()


def test_the_task_option_keeps_one_task_and_names_itself(suite):
    suite.standard().write(
        "evals/test_probe.py",
        "import pytest\n@pytest.mark.parametrize('task', ['a', 'b'])\ndef test_t(record, task):\n    record('loss', 1, n=1, task=task)\n",
    )
    suite.write("policies/p.toml", POLICY + "covers.task = ['a', 'b']\n")
    assert suite.run("evals", "--trialplate-task=a").ret == 1
    report = suite.report()
    assert [m.params for m in report.measurements] == [{"task": "a"}]
    assert report.reasons == [
        "gate loss on (no model): MISSING: no measurement of loss for task=b; deselected by --task a"
    ]
    assert suite.run("evals", "--trialplate-task=a", "--trialplate-task=b").ret == 0


def test_a_case_for_another_architecture(suite, tiny_model):
    case = "import pytest\n@pytest.mark.requires_architecture(ASKED)\ndef test_t(subject, record):\n    record('loss', 1, n=1)\n"
    tiny_model(suite.path / "tiny")
    for asked, why in (
        ("'gpt_neox', num_hidden_layers=1, unsaid=3", {}),
        ("'asm'", {"test_t": "is for models of type asm, ./tiny is of type gpt_neox"}),
        ("'gpt_neox', num_hidden_layers=3", {"test_t": "is for models with num_hidden_layers=3, ./tiny has 1"}),
    ):
        suite.standard().write("evals/test_probe.py", case.replace("ASKED", asked))
        suite.run("evals", "--trialplate-model=./tiny", "--trialplate-device=cpu")
        assert left_out(suite.report()) == why


def test_a_window_that_is_too_short_for_the_items(suite, tiny_model):
    window = (
        "import pytest\n@pytest.mark.requires_window(N)\ndef test_w(subject, record):\n    record('loss', 1, n=1)\n"
    )
    tiny_model(suite.path / "tiny")
    for n, why in ((32, {}), (33, {"test_w": "needs a window of 33 tokens, ./tiny has 32"})):
        suite.standard().write("evals/test_probe.py", window.replace("N", str(n)))
        suite.run("evals", "--trialplate-model=./tiny", "--trialplate-device=cpu")
        assert left_out(suite.report()) == why


def test_a_slow_case_runs_where_the_expression_speaks_of_it(suite):
    suite.standard().write("evals/test_probe.py", CASES.replace('requires_data("text.txt")', "slow"))
    suite.write("policies/p.toml", POLICY)
    assert suite.run("evals").ret == 1
    report = suite.report()
    why = "a heavy study, outside the default tier; -m slow runs it"
    assert left_out(report) == {"test_d": why}
    assert report.reasons == [
        f"gate loss on (no model): MISSING: no measurement of loss; 1 cases of this subject were not collected ({why})"
    ]
    for expression, ran in (("slow", {"loss"}), ("slow or not slow", {"loss", "accuracy"}), ("not slow", {"accuracy"})):
        suite.run("evals", "-m", expression)
        assert {m.metric for m in suite.report().measurements} == ran


def test_a_case_that_needs_an_extra(suite):
    for package, why in (
        ("json", {}),
        (
            "no_such_package",
            {
                "test_d": "needs the package no_such_package, which is not installed: pip install 'trialplate[no_such_package]'"
            },
        ),
    ):
        suite.standard().write(
            "evals/test_probe.py", CASES.replace('requires_data("text.txt")', f'requires_extra("{package}")')
        )
        suite.write("policies/p.toml", POLICY)
        assert suite.run("evals").ret == len(why)
        assert left_out(suite.report()) == why


def test_a_case_about_sites_of_an_architecture_without_a_map(suite, tiny_model):
    case = "import pytest\n@pytest.mark.requires_sites\ndef test_s(subject, record):\n    record('loss', 1, n=1)\n"
    folder = tiny_model(suite.path / "tiny")
    suite.standard().write("evals/test_probe.py", case)
    args = "evals", "--trialplate-model=./tiny", "--trialplate-device=cpu"
    suite.run(*args)
    assert left_out(suite.report()) == {}
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"gpt_neox"', '"bloom"'))
    suite.run(*args)
    assert left_out(suite.report()) == {"test_s": "there is no map of sites for models of type bloom (./tiny)"}


def test_a_case_for_another_device_or_dtype(suite, tiny_model):
    case = "import pytest\n@pytest.mark.requires_subject(ASKED)\ndef test_s(subject, record):\n    record('loss', 1, n=1)\n"
    tiny_model(suite.path / "tiny")
    for asked, why in (
        ("device='cpu', dtype='float32'", {}),
        ("dtype='float16'", {"test_s": "is for dtype float16, the subject has float32"}),
    ):
        suite.standard().write("evals/test_probe.py", case.replace("ASKED", asked))
        suite.run("evals", "--trialplate-model=./tiny", "--trialplate-device=cpu")
        assert left_out(suite.report()) == why
    suite.standard().write("evals/test_probe.py", case.replace("ASKED", "size=3"))
    assert suite.run("evals", "--trialplate-model=./tiny", "--trialplate-device=cpu").ret == 4
