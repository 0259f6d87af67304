"""From names to folders: each kind of name, and each way in which there is nothing under it."""

import pytest

from trialplate.models import hub
from trialplate.models.errors import AdapterError, ModelNotFound
from trialplate.models.resolve import resolve, resolve_adapter
from trialplate.models.spec import ModelSpec


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    place = tmp_path / "cwd"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_embedded_models_share_a_folder_and_one_is_drawn():
    stored, drawn = resolve(ModelSpec("embedded:neox-tiny")), resolve(ModelSpec("embedded:neox-random"))
    assert stored.kind == drawn.kind == "embedded"
    assert stored.path == drawn.path
    assert (stored.random_seed, drawn.random_seed) == (None, 0)


def test_folder_by_path_and_by_relative_name(make_folder, here):
    folder = make_folder("gpt2")
    assert resolve(ModelSpec(str(folder))).path == folder
    (here / "runs").mkdir()
    (here / "runs" / "mine").symlink_to(folder)
    found = resolve(ModelSpec("runs/mine"))
    assert (found.kind, found.hub_id, found.revision) == ("folder", None, None)


def test_a_catalogue_name_goes_before_a_folder_of_that_name(make_folder, here, hub_cache):
    (here / "gpt2").symlink_to(make_folder("gpt2"))
    with pytest.raises(ModelNotFound, match="openai-community/gpt2 at revision main is not in the hub cache"):
        resolve(ModelSpec("gpt2"))
    assert resolve(ModelSpec("./gpt2")).kind == "folder"


def test_hub_model_from_the_cache_without_network(make_folder, hub_cache):
    snapshot = hub_cache("EleutherAI/pythia-70m", make_folder("gpt_neox"), "step1000", "b" * 40)
    for name in ("pythia-70m", "EleutherAI/pythia-70m"):
        found = resolve(ModelSpec(name, "step1000"))
        assert (found.kind, found.path, found.hub_id, found.revision, found.commit) == (
            "hub",
            snapshot,
            "EleutherAI/pythia-70m",
            "step1000",
            "b" * 40,
        )
    assert resolve(ModelSpec("pythia-70m", "b" * 40)).path == snapshot


def test_not_in_the_cache_says_how_to_get_it(make_folder, hub_cache):
    hub_cache("EleutherAI/pythia-70m", make_folder("gpt_neox"), "step1000")
    with pytest.raises(ModelNotFound) as caught:
        resolve(ModelSpec("pythia-70m", "step2000"))
    text = str(caught.value)
    assert "`hf download EleutherAI/pythia-70m --revision step2000`" in text
    assert "--online" in text
    assert "which has revision step1000 of it" in text


def test_half_a_download_is_not_a_model(make_folder, hub_cache):
    hub_cache("openai-community/gpt2", make_folder("gpt2"), leave_out=("model.safetensors",))
    with pytest.raises(
        ModelNotFound, match="has the configuration of openai-community/gpt2 at revision main and not its weights"
    ):
        resolve(ModelSpec("gpt2"))
    assert resolve(ModelSpec("gpt2"), weights=False).kind == "hub"


def test_online_fetches_only_what_is_not_there(make_folder, hub_cache, monkeypatch):
    asked = []

    def download(hub_id, revision, *, weights=True):
        asked.append((hub_id, revision, weights))
        return hub_cache(hub_id, make_folder("gpt2"), revision or "main")

    monkeypatch.setattr(hub, "download", download)
    for _ in range(2):
        assert resolve(ModelSpec("gpt2"), online=True).commit == "a" * 40
    assert asked == [("openai-community/gpt2", None, True)]


@pytest.mark.parametrize("name", ["embedded:neox-tiny", "folder"])
def test_a_revision_is_never_ignored(name, make_folder):
    name = str(make_folder("gpt2")) if name == "folder" else name
    with pytest.raises(ModelNotFound, match="has no revisions, got --revision step1"):
        resolve(ModelSpec(name, "step1"))


def test_unknown_step_of_pythia_is_refused_before_any_look_up(hub_cache):
    with pytest.raises(ModelNotFound, match="has no checkpoint 'step1500'"):
        resolve(ModelSpec("EleutherAI/pythia-70m", "step1500"), online=True)


def test_unknown_name_lists_places_and_neighbours(here):
    with pytest.raises(ModelNotFound) as caught:
        resolve(ModelSpec("pythia-7m"))
    text = str(caught.value)
    assert "no model 'pythia-7m'" in text
    assert str(here / "pythia-7m") in text
    assert "nearest: pythia-70m" in text
    assert "org/name" in text


def test_unknown_hub_id_that_looks_like_a_folder(hub_cache, here):
    with pytest.raises(
        ModelNotFound, match=r"There is no folder .*someone/pythia-70m either; nearest catalogue names: pythia-70m"
    ):
        resolve(ModelSpec("someone/pythia-70m"))


def test_unknown_embedded_name():
    with pytest.raises(
        ModelNotFound,
        match="wanted one of embedded:neox-tiny, embedded:asm-tiny, embedded:neox-random, embedded:asm-random",
    ):
        resolve(ModelSpec("embedded:gpt5"))


def test_incomplete_installation_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("trialplate.models.resolve.EMBEDDED_FOLDER", tmp_path)
    with pytest.raises(ModelNotFound, match="the installation is incomplete"):
        resolve(ModelSpec("embedded:neox-tiny"))


def test_folders_that_are_no_models(tmp_path, copy_folder):
    with pytest.raises(ModelNotFound, match=r"no model folder at .*, got nothing"):
        resolve(ModelSpec(str(tmp_path / "gone")))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelNotFound, match="got a file"):
        resolve(ModelSpec(str(tmp_path / "file")))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelNotFound, match=r"has no config.json, so it is not a model folder \(it is empty\)"):
        resolve(ModelSpec(str(empty)))
    (empty / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="is an adapter, not a model"):
        resolve(ModelSpec(str(empty)))
    folder = copy_folder("gpt2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"has config.json and no weights"):
        resolve(ModelSpec(str(folder)))
    assert resolve(ModelSpec(str(folder)), weights=False).kind == "folder"


def test_adapters_by_folder_and_from_the_cache(tmp_path, hub_cache, here):
    folder = tmp_path / "lora"
    folder.mkdir()
    with pytest.raises(AdapterError, match=r"it has no adapter_config.json \(it is empty\)"):
        resolve_adapter(str(folder))
    (folder / "adapter_config.json").write_text("{}")
    assert resolve_adapter(str(folder)) == folder
    with pytest.raises(AdapterError, match="no adapter at"):
        resolve_adapter(str(tmp_path / "gone"))
    with pytest.raises(AdapterError, match="`hf download me/lora`"):
        resolve_adapter("me/lora")
    snapshot = hub_cache("me/lora", folder)
    assert resolve_adapter("me/lora") == snapshot
