"""Tiny model folders of several architectures, written once a session."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

N_TOKENS = 270


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory) -> Path:
    """A byte-level tokenizer of 270 tokens: an end of text, 256 bytes, a few merges, without special rules."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("Ġ", "the"),
        ("a", "n"),
        ("an", "d"),
        ("Ġ", "and"),
        ("Ġ", "a"),
        ("i", "n"),
        ("o", "n"),
        ("e", "r"),
        ("Ġ", "P"),
        ("i", "s"),
        ("l", "l"),
    ]
    vocab = {token: n for n, token in enumerate(["<|endoftext|>", *alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def tiny_config(family: str, **changes):
    """A configuration of two layers, width 32, for a family of architectures."""
    import transformers as tf

    common = {"vocab_size": N_TOKENS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    usual = {
        **common,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    if family == "gpt_neox":
        return tf.GPTNeoXConfig(**{**usual, **changes})
    if family == "gpt2":
        return tf.GPT2Config(**{**common, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **changes})
    if family == "llama":
        return tf.LlamaConfig(**{**usual, "num_key_value_heads": 2, **changes})
    if family == "opt":
        return tf.OPTConfig(**{**usual, "ffn_dim": 64, "word_embed_proj_dim": 32, **changes})
    if family == "gpt_neo":
        neo = {
            **common,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "max_position_embeddings": 64,
            "window_size": 8,
        }
        return tf.GPTNeoConfig(**{**neo, "attention_types": [[["global", "local"], 1]], **changes})
    if family == "gemma2":
        return tf.Gemma2Config(
            **{**usual, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 30.0, **changes}
        )
    if family == "cohere":
        return tf.CohereConfig(**{**usual, "num_key_value_heads": 2, **changes})
    if family == "asm":
        from asa.hf import ASMConfig

        slots = {"num_slots": 6, "slotspace_dim": 8, "slotspace_gate_init": 0.0, "content_read_init": 0.0}
        sizes = {"embed_dim": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 64, "write_chunk_size": 8}
        return ASMConfig(**{**common, **sizes, **slots, **changes})
    if family == "mamba":
        return tf.MambaConfig(**{**common, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 4, **changes})
    raise ValueError(family)


@pytest.fixture(scope="session")
def build_config():
    """build_config(family, **changes): a tiny configuration."""
    return tiny_config


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory, tokenizer_file):
    """make_folder(family, **config changes) -> a folder with config.json, model.safetensors and tokenizer.json; the same call gives the same folder."""
    made: dict[str, Path] = {}

    def make(family: str, **changes) -> Path:
        from transformers import AutoModelForCausalLM

        from trialplate.models.causal_lm import initialise
        from trialplate.models.load import quiet_transformers

        key = json.dumps([family, changes], sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp(family)
            config = tiny_config(family, **changes)
            with quiet_transformers():
                initialise(AutoModelForCausalLM._model_mapping[type(config)], config, seed=0).save_pretrained(
                    str(folder)
                )
            shutil.copy(tokenizer_file, folder)
            special = dict.fromkeys(("bos_token", "eos_token"), "<|endoftext|>")
            (folder / "tokenizer_config.json").write_text(json.dumps(special))
            made[key] = folder
        return made[key]

    return make


@pytest.fixture
def copy_folder(make_folder, tmp_path):
    """A copy that the test may damage."""

    def copy(family: str, **changes) -> Path:
        return Path(shutil.copytree(make_folder(family, **changes), tmp_path / family, dirs_exist_ok=True))

    return copy


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache, and a function that puts a folder into it as a revision of a model."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

    def put(
        hub_id: str, folder: Path, revision: str = "main", commit: str = "a" * 40, leave_out: tuple[str, ...] = ()
    ) -> Path:
        home = cache / f"models--{hub_id.replace('/', '--')}"
        snapshot, blobs, refs = home / "snapshots" / commit, home / "blobs", home / "refs"
        for place in (snapshot, blobs, refs):
            place.mkdir(parents=True, exist_ok=True)
        (refs / revision).write_text(commit)
        for file in folder.iterdir():
            if file.name not in leave_out:
                shutil.copy(file, blobs / f"{commit[:4]}-{file.name}")
                (snapshot / file.name).symlink_to(blobs / f"{commit[:4]}-{file.name}")
        return snapshot

    return put
