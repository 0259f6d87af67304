"""Settings of a training: layers, types, and what a misspelt key is told."""

from pathlib import Path

import pytest

from asa.config import ASMTrainConfig
from asa.train import SettingsError
from trialplate.cli.train_config import MINI, ConfigFileError, Given, read_file, read_set, resolve, tables, to_toml
from trialplate.training_data.settings import DataError

pytestmark = pytest.mark.fast


def file(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def test_a_key_belongs_to_one_table():
    keys = [key for table in tables().values() for key in table]
    assert len(keys) == len(set(keys))
    assert {"num_slots", "write_chunk_size", "write_mode", "max_seq_len"} <= set(tables()["model"])
    assert "learning_rate" not in tables()["model"]


def test_defaults():
    config = resolve([])
    assert config.train.total_steps == 300
    assert config.data.source == "corpus"
    assert config.model == {**MINI, "max_seq_len": 128}


def test_later_layers_are_stronger(tmp_path):
    path = file(tmp_path, "[train]\ntotal_steps = 40\nseq_len = 64\n[model]\nnum_slots = 4\n")
    config = resolve([read_file(path), read_set("total_steps=50"), {"train.seed": Given(3, "--seed 3")}])
    assert (config.train.total_steps, config.train.seq_len, config.train.seed) == (50, 64, 3)
    assert (config.model["num_slots"], config.model["max_seq_len"]) == (4, 64)


def test_warm_up_follows_the_steps_unless_it_is_given():
    assert resolve([read_set("total_steps=40")]).train.warmup_steps == 4
    assert resolve([read_set("total_steps=40"), read_set("warmup_steps=7")]).train.warmup_steps == 7


@pytest.mark.parametrize(
    ("option", "table", "name", "value"),
    [
        ("train.learning_rate=1e-3", "train", "learning_rate", 1e-3),
        ("learning_rate = 1", "train", "learning_rate", 1.0),
        ("betas=[0.8, 0.9]", "train", "betas", (0.8, 0.9)),
        ("autocast=bf16", "train", "autocast", "bf16"),
        ('data.source="a b.txt"', "data", "source", "a b.txt"),
        ("data.source=some/file.txt", "data", "source", "some/file.txt"),
        ("use_alibi_write=false", "model", "use_alibi_write", False),
    ],
)
def test_set_is_typed(option, table, name, value):
    config = resolve([read_set(option)])
    part = getattr(config, table)
    found = part[name] if isinstance(part, dict) else getattr(part, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("train.learning_rat=1", "--set train.learning_rat=1: 'learning_rat' is not a key of [train]; did you mean learning_rate?"),
        ("learnig_rate=1", "--set learnig_rate=1: no setting is named 'learnig_rate'; did you mean train.learning_rate?"),
        ("trian.seed=1", "--set trian.seed=1: 'trian' is not a table; did you mean train?"),
        ("train.num_slots=1", "'num_slots' is not a key of [train]"),
        ("train.num_slots=1", "[model] has it"),
        ("seed", "wanted key=value"),
        ("seed=1.5", "--set seed=1.5: train.seed: Expected `int`, got `float` (1.5)"),
        ("tie_weights=1", "model.tie_weights: Expected `bool`, got `int`"),
        ("packing=loose", "data.packing: Invalid enum value 'loose'"),
    ],
)  # fmt: skip
def test_a_wrong_set_says_where_and_what(option, text):
    with pytest.raises(ConfigFileError) as caught:
        resolve([read_set(option)])
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nseed = 1\n\nlearning_rat = 1\n", "c.toml:4: 'learning_rat' is not a key of [train]; did you mean learning_rate?"),
        ("[model]\nnum_slot = 1\n", "c.toml:2: 'num_slot' is not a key of [model]; did you mean num_slots?"),
        ("[train]\nseed=1\n[trian]\n", "c.toml:3: 'trian' is not a table; did you mean train?"),
        ("seed = 1\n", "c.toml"),
        ("[train]\nseed = 'one'\n", "c.toml:2: train.seed: Expected `int`, got `str` ('one')"),
        ("[train\n", "c.toml is not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_file_says_where_and_what(tmp_path, text, said):
    with pytest.raises(ConfigFileError) as caught:
        resolve([read_file(file(tmp_path, text))])
    assert said in str(caught.value)


def test_an_absent_file(tmp_path):
    with pytest.raises(ConfigFileError, match="cannot read"):
        read_file(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("option", "error"),
    [("total_steps=0", SettingsError), ("induction_share=0.5", DataError), ("val_documents=0", DataError)],
)
def test_values_out_of_range(option, error):
    with pytest.raises(error, match=r"wanted|needs"):
        resolve([read_set(option)])


def test_what_is_written_reads_back_the_same(tmp_path):
    layers = [read_set('source="a\\"b \\\\ é.txt"'), read_set("betas=[0.5, 0.75]"), read_set("rope_base=1e-7")]
    config = resolve([*layers, read_set("num_slots=3")])
    cfg = ASMTrainConfig.from_dict({**config.model, "vocab_size": 99})
    again = resolve([read_file(file(tmp_path, to_toml(config, cfg)))])
    assert (again.train, again.data) == (config.train, config.data)
    assert again.model == {name: getattr(cfg, name) for name in tables()["model"]}


def test_the_recipe_of_the_embedded_model_reads():
    from trialplate.models import embedded_training

    (folder,) = embedded_training.__path__
    config = resolve([read_file(Path(folder) / "asm_tiny.toml")])
    assert config.data.packing == "weighted"
    assert config.model["embed_dim"] == 128
