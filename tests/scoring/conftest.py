"""Small random models with a byte-level tokenizer, a table model whose answers are known, and the slow twin."""

import importlib.util
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

N_TOKENS = 270
WINDOW = 24


@pytest.fixture(scope="session")
def slow():
    """The slow obvious form, from building_blocks/."""
    file = Path(__file__).parents[2] / "building_blocks" / "scoring_slow.py"
    spec = importlib.util.spec_from_file_location("scoring_slow", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tokenizer():
    """270 tokens: an end of text (id 0), 256 bytes, 13 merges."""
    from trialplate.models.tokenizers import TokenizerAdapter

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = "t h|th e|Ġ the|a n|an d|Ġ and|Ġ a|i n|o n|e r|Ġ P|i s|l l"
    merges = [tuple(pair.split(" ")) for pair in pairs.split("|")]
    vocab = {token: n for n, token in enumerate(["<|end|>", *alphabet, *map("".join, merges)])}
    backend = Tokenizer(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    return TokenizerAdapter(backend, bos_id=None, eos_id=0)


@pytest.fixture(scope="session")
def build(tokenizer):
    """build(family, seed=0) -> a tiny random CausalLM with a window of 24 tokens."""

    def build_one(family: str, seed: int = 0, dtype: str = "float32", **changes):
        from trialplate.models.causal_lm import CausalLM
        from trialplate.models.spec import ModelSpec

        model_class, config = _architecture(family, changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = model_class(config).to(getattr(torch, dtype))
        return CausalLM(ModelSpec(f"tiny-{family}-{seed}", dtype=dtype), module, tokenizer)

    return build_one


def _architecture(family: str, changes: dict):
    import transformers as tf

    common = {"vocab_size": N_TOKENS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.3}
    usual = {
        **common,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": WINDOW,
    }
    if family == "gpt_neox":
        return tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**{**usual, **changes})
    if family == "llama":
        return tf.LlamaForCausalLM, tf.LlamaConfig(**{**usual, "num_key_value_heads": 1, **changes})
    if family == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": WINDOW}
        return tf.GPT2LMHeadModel, tf.GPT2Config(**{**common, **sizes, **changes})
    if family == "gemma2":  # caps its logits after the head, so the head cannot be split off
        own = {"num_key_value_heads": 1, "head_dim": 16, "final_logit_softcapping": 5.0}
        return tf.Gemma2ForCausalLM, tf.Gemma2Config(**{**usual, **own, **changes})
    if family == "bloom":  # positions come from the mask, which must be two-dimensional
        sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 2}
        return tf.BloomForCausalLM, tf.BloomConfig(**{**common, **sizes, "max_position_embeddings": WINDOW, **changes})
    raise ValueError(family)


@pytest.fixture(scope="session")
def neox(build):
    """The model that most tests use."""
    return build("gpt_neox")


class TableModel:
    """Says after token t what row t of a table says, whatever came before: the surface of a model with answers that can be worked out by hand."""

    splits_head = False
    weights_digest = config_digest = "table"

    def __init__(self, table: torch.Tensor, tokenizer, max_length: int = WINDOW, prefix_id: int | None = 0) -> None:
        self.table, self.tokenizer, self.max_length, self.prefix_id = table, tokenizer, max_length, prefix_id
        self.label, self.device, self.dtype, self.vocab_rows = "table", torch.device("cpu"), torch.float32, len(table)
        self.module = torch.nn.Module()
        self.module.table = torch.nn.Parameter(table, requires_grad=False)
        self.shapes: list[tuple[int, int]] = []

    def logits(self, ids, attention_mask=None, position_ids=None):
        self.shapes.append(tuple(ids.shape))
        return self.table[ids]

    def start(self, ids, attention_mask=None, position_ids=None):
        return self.table[ids[:, -1]], None

    def step(self, state, ids):
        return self.table[ids[:, -1]], state


class NumberTokenizer:
    """Texts are numbers with blanks between them; each is its own token."""

    eos_id, bos_id, digest = None, None, "numbers"

    def encode(self, text):
        return [int(word) for word in text.split()]

    def encode_batch(self, texts):
        return [self.encode(text) for text in texts]

    def decode(self, ids):
        return " ".join(map(str, ids))


@pytest.fixture(scope="session")
def make_table():
    """make_table(table, **options) -> a TableModel over number texts."""
    return lambda table, **options: TableModel(table, options.pop("tokenizer", NumberTokenizer()), **options)


@pytest.fixture
def successor(make_table):
    """Ten tokens; after t comes t + 1 (modulo 10) with probability 0.91, and each other with 0.01."""
    table = torch.full((10, 10), 0.01)
    table[torch.arange(10), (torch.arange(10) + 1) % 10] = 0.91
    return make_table(table.log(), max_length=4)
