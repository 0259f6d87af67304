"""From prompt sets to ids: what is one token, what is not, and what the texts of the errors say."""

import pytest
import torch

from trialplate.models.resolve import EMBEDDED_FOLDER
from trialplate.models.tokenizers import load_tokenizer
from trialplate.routing.characters import (
    ALPHABET,
    N_CHARACTERS,
    character_decode,
    character_encode,
    random_character_model,
)
from trialplate.routing.encoding import encode_prompts, one_token
from trialplate.routing.errors import ProbeError
from trialplate.routing.margin import checked_mask, last_positions, margins
from trialplate.routing.prompts import CHARACTER, CHECKPOINT, EMBEDDED, PROMPT_SETS, Prompt, PromptSet, prompt_set
from trialplate.tasks.lexicon import COUNTRIES
from trialplate.tasks.probes.facts import CAPITAL_TEMPLATES

WORDS = {"Paris": [1], " Paris": [2], " the": [3], " New York": [4, 5], "": [], " unknown": [3]}


def encode(text):
    return WORDS.get(text, [7] * (1 + text.count(" ")))


def small(**changes):
    return PromptSet(
        **{
            "name": "x",
            "definition": "",
            "target": " Paris",
            "rival": " the",
            "prompts": (Prompt("a b"), Prompt("a")),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def embedded_encode():
    return load_tokenizer(EMBEDDED_FOLDER / "neox-tiny").encode


@pytest.mark.fast
def test_prompts_are_padded_on_the_right():
    found = encode_prompts(small(), encode, vocab_size=8, max_seq_len=4, lead=(6,))
    assert found.ids.tolist() == [[6, 7, 7], [6, 7, 0]]
    assert found.mask.tolist() == [[True, True, True], [True, True, False]]
    assert last_positions(found.mask).tolist() == [2, 1]
    assert (found.target_id, found.rival_id, found.first_token) == (2, 3, False)


@pytest.mark.fast
def test_several_tokens_are_an_error_that_says_what_can_be_done():
    with pytest.raises(ProbeError, match=r"' New York' is 2 tokens \(\[4, 5\]\).*--first-token.*--target"):
        one_token(encode, " New York")
    assert one_token(encode, " New York", first_token=True) == 4
    found = encode_prompts(small(target=" New York"), encode, vocab_size=8, max_seq_len=4, first_token=True)
    assert (found.target_id, found.first_token) == (4, True)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changes", "limits", "text"),
    [
        ({"target": ""}, {}, "no token at all"),
        ({"target": " unknown"}, {}, "both token 3"),
        ({}, {"vocab_size": 3}, "gives id 7 and the model has 3"),
        ({}, {"max_seq_len": 1}, "2 tokens: wanted 1 to 1"),
        ({"prompts": (Prompt(""),)}, {}, "0 tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, limits, text):
    with pytest.raises(ProbeError, match=text):
        encode_prompts(small(**changes), encode, **{"vocab_size": 8, "max_seq_len": 4, **limits})


@pytest.mark.fast
def test_an_unknown_set_names_the_known_ones():
    with pytest.raises(ProbeError, match="notebook, checkpoint, character, embedded"):
        prompt_set("notebok")


def test_the_embedded_tokenizer_has_the_words_of_three_sets(embedded_encode):
    for name in ("notebook", "checkpoint", "embedded"):
        source = PROMPT_SETS[name]
        assert encode_prompts(source, embedded_encode, vocab_size=5_000, max_seq_len=128).mask.any()


@pytest.mark.fast
def test_embedded_prompts_are_those_the_corpus_teaches():
    france = [prompt.text for prompt in EMBEDDED.prompts if not prompt.is_control]
    assert france == [template.format(name="France") for template in CAPITAL_TEMPLATES]
    capitals = {country.name: country.capital for country in COUNTRIES}
    assert EMBEDDED.target == f" {capitals['France']}"
    controls = [prompt.text for prompt in EMBEDDED.prompts if prompt.is_control]
    assert len(controls) == 3 * len(CAPITAL_TEMPLATES)
    assert not any("France" in text for text in controls)


@pytest.mark.fast
def test_checkpoint_prompts_that_do_not_ask_for_paris_are_controls():
    assert [prompt.text for prompt in CHECKPOINT.prompts if prompt.is_control] == [
        "Paris is the capital of",
        "The capital of the UK is",
        "London is the capital of",
    ]
    assert len(CHECKPOINT.prompts) == 6


@pytest.mark.fast
def test_characters():
    encoded, decode = character_encode(), character_decode()
    assert encoded("P") == [2 + ALPHABET.index("P")]
    assert encoded("ß") == [0]
    assert decode([*encoded("Paris"), 0, 1, 10_000]) == "Paris<unk><pad><unk>"
    assert max(max(encoded(prompt.text)) for prompt in CHARACTER.prompts) < N_CHARACTERS
    assert all(prompt.text.endswith(" ") for prompt in CHARACTER.prompts)


def test_the_random_character_model_is_that_of_its_seed_and_leaves_generators_alone():
    state = torch.get_rng_state()
    one, same, other = (random_character_model(seed).tok.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.fast
@pytest.mark.parametrize("mask", [[[0, 1, 1]], [[1, 0, 1]], [[0, 0, 0]]])
def test_padding_stands_on_the_right(mask):
    with pytest.raises(ProbeError, match="pad on the right"):
        checked_mask(torch.ones(1, 3, dtype=torch.long), torch.tensor(mask))


def test_every_prompt_may_have_its_own_words(toy):
    target, rival = toy.words
    n = len(toy.prompts.ids)
    own = torch.tensor([target, rival] * n)[:n], torch.tensor([rival, target] * n)[:n]
    one = margins(toy.model, toy.prompts.ids, toy.prompts.mask, target, rival)
    each = margins(toy.model, toy.prompts.ids, toy.prompts.mask, *own)
    assert torch.equal(each[::2], one[::2])
    assert torch.equal(each[1::2], -one[1::2])


def test_a_margin_does_not_depend_on_its_padding(toy):
    row, length = 0, int(toy.prompts.mask[0].sum())
    alone = margins(toy.model, toy.prompts.ids[row : row + 1, :length], None, *toy.words)
    assert alone.item() == pytest.approx(toy.golden["margin"][row], abs=1e-4)
