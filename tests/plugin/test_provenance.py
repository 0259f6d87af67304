"""Which code ran, where, and how it was asked: content, not names; nothing of people or hosts."""

import subprocess

import pytest

from trialplate.plugin import devices, provenance


@pytest.mark.fast
def test_the_digest_of_a_folder_covers_names_and_contents(tmp_path):
    def digest(**files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            (folder / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name.replace('__', '/')}.py").write_text(text)
        return provenance.tree_digest([folder])

    first = digest(a="1", b__c="2")
    assert first == digest(a="1", b__c="2")
    assert len({first, digest(a="1", b__c="3"), digest(a="1", b__d="2"), digest(a="1")}) == 4


def test_a_commit_with_changes_is_dirty(suite):
    suite.standard()
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=suite.path, check=True, capture_output=True)
    suite.run("evals", "--trialplate-report=../outside")
    clean = suite.report(suite.path.parent / "outside").code
    assert (len(clean.commit), clean.diff_sha256) == (40, None)
    suite.path.joinpath("evals/test_probe.py").open("a").write("# changed\n")
    suite.run()
    dirty = suite.report().code
    assert (dirty.commit, dirty.dirty, len(dirty.diff_sha256)) == (clean.commit, True, 64)
    assert dirty.evals_sha256 != clean.evals_sha256
    assert dirty.trialplate_sha256 == clean.trialplate_sha256


@pytest.mark.fast
def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError))
    assert provenance._git(tmp_path) == (None, None, None)


@pytest.mark.fast
def test_the_environment_names_versions_and_allowed_variables_only(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    found = provenance.environment(3)
    assert found.threads == 3
    assert found.variables["OMP_NUM_THREADS"] == "1"
    assert "hunter2" not in str(found)
    assert found.packages["pytest"]
    assert found.cpu


@pytest.mark.fast
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/home/me/models", "~/models"), ("/home/me", "~"), ("/home/meyer/x", "/home/meyer/x"), ("--data=/home/me/x", "--data=~/x"),
        ("https://user:pw@host/x", "https://host/x"), (["/home/me/a", 3], ["~/a", 3]), (None, None), ("\udcff", "\\udcff"),
    ],
)  # fmt: skip
def test_private_parts_are_cut(monkeypatch, value, kept):
    monkeypatch.setattr(provenance.Path, "home", lambda: provenance.Path("/home/me"))
    assert provenance.private(value) == kept


class Driver:
    """The CUDA driver, as far as it is asked."""

    def __init__(self, names, fails=False):
        self.names, self.fails = names, fails

    def cuInit(self, flags):
        return 100 if self.fails else 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device, i):
        device._obj.value = i

    def cuDeviceGetName(self, name, size, device):
        name.value = self.names[device.value].encode()

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = 80 << 30

    def cuDriverGetVersion(self, version):
        version._obj.value = 13010
        return 1 if self.fails else 0


@pytest.mark.fast
def test_devices_come_from_the_driver(monkeypatch):
    monkeypatch.setattr(devices, "_driver", lambda: Driver(["H1", "H2"]))
    monkeypatch.setattr(devices.importlib.metadata, "version", lambda name: "2.13.0")
    assert devices.cuda_gpus() == [("H1", 81920), ("H2", 81920)]
    assert devices.cuda_driver() == "13.1"
    found = devices.detect()
    assert found | {"mps": "mps"} == {
        "cpu": "cpu",
        "cuda": "cuda:0",
        "cuda:0": "cuda:0",
        "cuda:1": "cuda:1",
        "mps": "mps",
    }
    assert devices.default_devices({"cpu": "cpu", "cuda": "cuda:0", "cuda:0": "cuda:0"}) == ["cpu", "cuda"]


@pytest.mark.fast
def test_a_cpu_build_of_torch_uses_no_gpu(monkeypatch):
    monkeypatch.setattr(devices, "_driver", lambda: Driver(["H1"]))
    monkeypatch.setattr(devices.importlib.metadata, "version", lambda name: "2.13.0+cpu")
    monkeypatch.setattr(devices.sys, "platform", "linux")
    assert devices.detect() == {"cpu": "cpu"}
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    assert devices.detect() == {"cpu": "cpu", "mps": "mps"}


@pytest.mark.fast
def test_no_driver_and_a_driver_that_fails_are_no_device(monkeypatch):
    for driver in (None, Driver(["H1"], fails=True)):
        monkeypatch.setattr(devices, "_driver", lambda driver=driver: driver)
        assert devices.cuda_gpus() == []
        assert devices.cuda_driver() is None

    def missing(name):
        raise devices.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(devices.importlib.metadata, "version", missing)
    assert not devices.torch_has_cuda()


@pytest.mark.fast
def test_a_driver_that_cannot_be_loaded_is_none(monkeypatch):
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert devices._driver() is None
