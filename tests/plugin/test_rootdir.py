"""`--model PATH` must not move pytest's root or ini file, and the ids of cases do not depend on the root."""

import pytest

SHORT = """
from trialplate.plugin.options import add_short_options

def pytest_addoption(parser):
    add_short_options(parser)
"""


@pytest.fixture
def project(suite, monkeypatch):
    """A project below the working folder with the short options, and a model folder beside it that has an ini file of its own."""
    for name in ("pytest.ini", "evals/test_probe.py", "evals/test_gates.py", "policies/p.toml"):
        suite.standard()
        (suite.path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (suite.path / name).rename(suite.path / "project" / name)
    suite.write("project/conftest.py", SHORT)
    suite.write("model/config.json", "{}")
    suite.write("model/model.safetensors", "")
    suite.write("model/pytest.ini", "[pytest]\n")
    monkeypatch.chdir(suite.path)
    return suite


@pytest.mark.parametrize(
    "args", [["--model", "model", "project/evals"], ["--policy", "model", "project/evals"]], ids=lambda a: a[0]
)
def test_a_path_with_a_space_that_moves_the_ini_file_is_refused(project, args):
    result = project.run(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [f"*{args[0]} model made pytest take that path for a test path: it read {project.path}/model/pytest.ini instead of "
         f"{project.path}/project/pytest.ini. Write {args[0]}=model, with an equals sign*"]
    )  # fmt: skip
    assert not (project.path / "project" / "reports").exists()


@pytest.mark.parametrize(
    "args", [["project/evals", "--model=model"], ["project/evals", "--model", "model"]], ids=["=", "after"]
)
def test_a_path_that_moves_nothing_is_fine(project, args):
    """Case ids and report are where they belong; the model of the test is no model, which its cases do not ask for."""
    project.write(
        "project/policies/p.toml", "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'loss'\nmetric = 'loss'\nmax = 4\n"
    )
    project.run(*args)
    report = project.report(project.path / "project" / "reports" / "latest")
    assert report.cases[0].id == "test_probe.py::test_a[1]"


def test_an_ini_file_that_was_named_is_meant(project):
    result = project.run(
        "-c", "model/pytest.ini", "--rootdir=model", "--model", "model", "project/evals", "--collect-only"
    )
    assert "with an equals sign" not in result.stderr.str()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options]\n"), ("pyproject.toml", "[tool.pytest]\n"), ("tox.ini", "[pytest]\n"),
        ("setup.cfg", "[tool:pytest]\n"), ("pytest.toml", ""), (".pytest.ini", ""),
    ],
)  # fmt: skip
def test_every_ini_file_of_pytest_is_known(tmp_path, name, text):
    from trialplate.plugin import rootdir

    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / name).write_text(text)
    (tmp_path / "a" / "b" / "pyproject.toml").write_text("[project]\ndependencies = ['pytest']\n")
    (tmp_path / "a" / "b" / "tox.ini").write_text("[tox]\ndeps = pytest\n")
    (tmp_path / "a" / "b" / "setup.cfg").write_text("no section")
    assert rootdir._ini_of([tmp_path / "a" / "b"]) == tmp_path / "a" / name


def test_case_ids_do_not_depend_on_the_root_directory(suite, monkeypatch):
    suite.standard()
    suite.write("evals/deep/test_deep.py", "def test_d(record):\n    pass\n")
    runs = []
    for args in ([], ["--rootdir=evals"], ["--rootdir=/"], [f"--rootdir={suite.path.parent}"]):
        suite.run("evals", *args)
        runs.append([c.id for c in suite.report().cases])
    monkeypatch.chdir(suite.path / "evals" / "deep")
    suite.run("..")
    runs.append([c.id for c in suite.report().cases])
    assert all(ids == runs[0] for ids in runs)
    assert runs[0] == [
        "deep/test_deep.py::test_d", "test_probe.py::test_a[1]", "test_probe.py::test_a[5]", "test_probe.py::test_b",
        "test_gates.py::test_gate[-acc]", "test_gates.py::test_gate[-loss]",
    ]  # fmt: skip


def test_a_linked_folder_of_evals_has_the_same_ids(suite):
    suite.standard()
    (suite.path / "evals").rename(suite.path / "elsewhere")
    (suite.path / "evals").symlink_to("elsewhere")
    suite.run()
    assert suite.report().cases[0].id == "test_probe.py::test_a[1]"


def test_a_file_name_that_is_not_utf8_can_be_reported(suite):
    suite.standard()
    (suite.path / "evals/test_probe.py").rename(
        suite.path / "evals" / b"test_\xff.py".decode("utf-8", "surrogateescape")
    )
    assert suite.run().ret == 0
    assert suite.report().cases[0].id == "test_\\udcff.py::test_a[1]"


def test_a_case_outside_the_evals_has_its_node_id(suite):
    suite.write("tests/test_x.py", "def test_x(record):\n    pass\n")
    suite.run("tests", "--trialplate-report=out")
    assert suite.report(suite.path / "out").cases[0].id == "tests/test_x.py::test_x"
