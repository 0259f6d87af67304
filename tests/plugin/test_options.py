"""Options: prefixed ones with ini twins, short ones from a root conftest, and where each value came from."""

from trialplate.plugin import options

SHORT = "from trialplate.plugin.options import add_short_options\ndef pytest_addoption(parser):\n    add_short_options(parser)\n"


def test_short_and_prefixed_names_fill_the_same_option(suite):
    suite.standard().write(
        "conftest.py", SHORT + "def trialplate_load_model(name, revision, device, dtype):\n    return None\n"
    )
    suite.run("evals", "--model=a", "--trialplate-model=b", "--model=c", "--seed=3", "--device=cpu", "--limit=5")
    report = suite.report()
    assert report.config["model"].value == ["a", "b", "c"]
    assert (report.config["seed"].value, report.run.seed) == (3, 3)
    assert report.run.filters == ["--limit 5"]


def test_the_origin_of_every_value_is_kept(suite):
    suite.standard().write(
        "pytest.ini",
        "[pytest]\ntrialplate_evals = evals\ntrialplate_policies = policies\ntrialplate_threads = 2\ntrialplate_dtypes = bfloat16\n",
    )
    suite.run("evals", "--trialplate-seed=0", "-k", "test_a")
    config = suite.report().config
    assert {name: (config[name].value, config[name].origin) for name in ("threads", "dtype", "seed", "online", "limit", "-k")} == {
        "threads": (2, "ini: trialplate_threads"), "dtype": (["bfloat16"], "ini: trialplate_dtypes"), "seed": (0, "command line"),
        "online": (False, "default"), "limit": (None, "default"), "-k": ("test_a", "command line"),
    }  # fmt: skip
    assert suite.report().environment.threads == 2


def test_the_command_line_wins_over_the_ini_file(suite):
    suite.standard().write(
        "pytest.ini", "[pytest]\ntrialplate_evals = evals\ntrialplate_policies = policies\ntrialplate_threads = 2\n"
    )
    suite.run("evals", "--trialplate-threads=3")
    assert suite.report().config["threads"].value == 3


def test_help_shows_one_group_with_every_option(suite):
    text = suite.run("--help").stdout.str()
    assert "trialplate: measure, report and judge language models" in text
    for option in options.OPTIONS:
        assert options.flag(option.name) in text
        assert not option.ini or f"trialplate_{option.ini} (" in text


def test_two_short_names_of_another_plugin_are_a_clear_clash(suite):
    suite.write("conftest.py", SHORT.replace("    add", "    parser.addoption('--model')\n    add"))
    assert "--model" in suite.run_alone("tests").stderr.str()


def test_marks_are_known_under_strict_marks(suite):
    suite.standard().write(
        "evals/test_probe.py",
        "import pytest\n@pytest.mark.slow\n@pytest.mark.fast\n@pytest.mark.network\n@pytest.mark.requires_data('x')\ndef test_a(record):\n    pass\n",
    )
    suite.write("pytest.ini", "[pytest]\ntrialplate_evals = evals\naddopts = --strict-markers --strict-config\n")
    assert suite.run("evals", "-m", "slow").ret == 5
    assert "needs x in the data folder" in suite.report().reasons[1]


def test_home_folders_and_credentials_do_not_reach_the_report(suite, monkeypatch):
    monkeypatch.setenv("HOME", str(suite.path))
    suite.standard().write("policies/p.toml", (suite.path / "policies/p.toml").read_text())
    suite.run(
        f"{suite.path}/evals",
        f"--trialplate-policy={suite.path}/policies/p.toml",
        "--trialplate-data=https://me:secret@host/x",
    )
    text = (suite.latest / "report.json").read_text()
    assert "secret" not in text
    report = suite.report()
    assert "~/evals" in report.run.argv
    assert report.config["policy"].value == ["~/policies/p.toml"]
    assert report.config["data"].value == "https://host/x"
