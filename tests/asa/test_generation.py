"""Decoding: equal to a full forward pass at each step, whatever the padding, the company and the place of chunk borders."""

from __future__ import annotations

import pytest
import torch
from tests.asa.golden_cases import FOLDER, of_kind, part
from tests.asa.tiny_models import ids, tiny

from asa.generation import generate
from asa.padding import align


@pytest.fixture(scope="module")
def model():
    return tiny()


def slow(model, prompt, n, choose=lambda logits, row: int(logits.argmax())):
    """Greedy decoding by the definition: the whole text, cropped to the window, through the model for every token."""
    row = list(prompt)
    for _ in range(n):
        logits = model(torch.tensor([row[-model.max_seq_len :]]))[0, -1].float()
        row.append(choose(logits, row))
    return row


def test_golden_tokens():
    from safetensors.torch import load_file

    from asa.asm_lm import build_model_from_cfg
    from asa.config import ASMTrainConfig

    (case,) = of_kind("generate")
    found = load_file(FOLDER / case["file"])
    model = build_model_from_cfg(ASMTrainConfig.from_dict(case["cfg"])).eval()
    model.load_state_dict(part(load_file(FOLDER / case["state_from"]), "state."))
    made = generate(model, found["in.input_ids"], max_new_tokens=case["max_new_tokens"], strategy=case["strategy"])
    assert made.tokens == found["out.tokens"].tolist()


@pytest.mark.parametrize(
    "changes", [{}, {"write_chunk_size": 1}, {"write_chunk_size": 5}, {"write_mode": "exact"}, {"use_abs_pos": True}]
)
def test_greedy_is_the_argmax_of_a_full_forward_pass_across_chunk_borders(changes):
    model = tiny(**changes)
    prompts = ids(2, 6)
    made = generate(model, prompts, max_new_tokens=25)
    assert made.tokens == [slow(model, row, 25) for row in prompts.tolist()]
    assert len({*made.new_tokens[0], *made.new_tokens[1]}) > 3  # not one token for ever
    assert (made.finished, made.n_prompt, made.seed) == (["length"] * 2, [6, 6], None)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_ragged_prompts_are_what_they_are_alone(model, side):
    rows = [ids(1, n, seed=n)[0].tolist() for n in (3, 9, 17)]
    padded, mask = [], []
    for row in rows:
        left = {"left": 17 - len(row), "right": 0, "both": (17 - len(row)) // 2}[side]
        right = 17 - len(row) - left
        padded.append([7] * left + row + [9] * right)
        mask.append([0] * left + [1] * len(row) + [0] * right)
    together = generate(model, torch.tensor(padded), torch.tensor(mask), max_new_tokens=12)
    assert together.tokens == [slow(model, row, 12) for row in rows]
    assert together.n_prompt == [3, 9, 17]


def test_beyond_the_window_the_last_tokens_are_read_anew():
    model = tiny(max_seq_len=12)
    prompts, mask = torch.cat([ids(2, 14), ids(1, 14, seed=5)]), torch.ones(3, 14, dtype=torch.long)
    mask[1, 9:] = 0
    mask[2, 12:] = 0  # one longer than the window, one that grows beyond it, one that fills it
    made = generate(model, prompts, mask, max_new_tokens=8)
    rows = [row[:n] for row, n in zip(prompts.tolist(), mask.sum(1).tolist(), strict=True)]
    assert made.tokens == [slow(model, row, 8) for row in rows]


def test_a_full_window_stops_or_is_refused_if_asked():
    model = tiny(max_seq_len=12)
    prompts = ids(2, 9)
    made = generate(model, prompts, max_new_tokens=8, on_overflow="stop")
    assert made.finished == ["full", "full"]
    assert made.tokens == [slow(model, row, 4) for row in prompts.tolist()]  # 12 were read, the 13th is not
    assert generate(model, prompts, max_new_tokens=4, on_overflow="stop").finished == ["length", "length"]
    assert generate(model, prompts, max_new_tokens=4, on_overflow="error").tokens == made.tokens
    with pytest.raises(
        ValueError, match=r"a prompt of 9 tokens with max_new_tokens=5 reads 13 tokens, more than max_seq_len 12"
    ):
        generate(model, prompts, max_new_tokens=5, on_overflow="error")
    with pytest.raises(
        ValueError, match="a prompt has 13 tokens, more than max_seq_len 12: there is nothing to go on from"
    ):
        generate(model, ids(1, 13), on_overflow="stop")


def penalised(logits, row, penalty):
    for token in set(row):
        logits[token] = logits[token] * penalty if logits[token] < 0 else logits[token] / penalty
    return int(logits.argmax())


def test_repetition_penalty(model):
    prompts = ids(2, 5)
    made = generate(model, prompts, max_new_tokens=15, repetition_penalty=1.7)
    assert made.tokens == [
        slow(model, row, 15, lambda logits, row: penalised(logits, row, 1.7)) for row in prompts.tolist()
    ]
    assert made.tokens != generate(model, prompts, max_new_tokens=15).tokens


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(model, size):
    def choose(logits, row):
        grams = {tuple(row[n : n + size]) for n in range(len(row) - size + 1)}
        for token in range(len(logits)):
            if (*row[len(row) - size + 1 :], token) in grams:
                logits[token] = -torch.inf
        return int(logits.argmax())

    prompts = torch.tensor([[3, 4, 3, 5, 3], [8, 8, 9, 8, 8]])
    made = generate(model, prompts, max_new_tokens=20, no_repeat_ngram_size=size)
    assert made.tokens == [slow(model, row, 20, choose) for row in prompts.tolist()]
    for row, n in zip(made.tokens, made.n_prompt, strict=True):
        new = [tuple(row[i : i + size]) for i in range(max(0, n - size + 1), len(row) - size + 1)]
        old = {tuple(row[i : i + size]) for i in range(n - size + 1)}
        assert len(new) == len(set(new))
        assert not old & set(new)


def test_stop_tokens_and_sequences_end_their_rows_only(model):
    prompts = ids(3, 5)
    free = generate(model, prompts, max_new_tokens=12).new_tokens
    eos = free[0][2]
    made = generate(model, prompts, max_new_tokens=12, eos_id=eos)
    ends = [row.index(eos) + 1 if eos in row else 12 for row in free]
    assert made.new_tokens == [row[:end] for row, end in zip(free, ends, strict=True)]  # what ends a row is kept
    assert made.finished[0] == "eos"
    pair = tuple(free[1][3:5])
    stopped = generate(model, prompts, max_new_tokens=12, stop=[pair, [9999]])
    first = next(n for n in range(11) if tuple(free[1][n : n + 2]) == pair)
    assert stopped.new_tokens[1] == free[1][: first + 2]
    assert stopped.finished[1] == "stop"
    single = generate(model, prompts, max_new_tokens=12, stop=[free[2][0]])
    assert (single.new_tokens[2], single.finished[2]) == (free[2][:1], "stop")
    # a sequence that the prompt has begun is not one of the new text
    before = (int(prompts[0, -1]), free[0][0])
    assert generate(model, prompts[:1], max_new_tokens=2, stop=[before]).finished == ["length"]


def test_the_same_seed_draws_the_same_and_others_differ(model):
    prompts = ids(2, 5)
    settings = {"max_new_tokens": 15, "strategy": "sample", "temperature": 3.0, "top_p": 1.0}
    made = generate(model, prompts, generator=torch.Generator().manual_seed(4), **settings)
    assert generate(model, prompts, generator=torch.Generator().manual_seed(4), **settings) == made
    assert generate(model, prompts, generator=made.seed, **settings) == made
    assert generate(model, prompts, generator=torch.Generator().manual_seed(5), **settings).tokens != made.tokens
    fresh = generate(model, prompts, **settings)
    assert generate(model, prompts, generator=fresh.seed, **settings) == fresh
    assert fresh.tokens != made.tokens
    generator = torch.Generator().manual_seed(4)
    generate(model, prompts, generator=generator, **settings)
    assert generate(model, prompts, generator=generator, **settings).tokens != made.tokens  # a generator moves on


def test_draws_do_not_depend_on_the_company(model):
    settings = {"max_new_tokens": 10, "strategy": "sample", "temperature": 3.0, "generator": 7}
    prompts = [[1, 2, 3], [4, 5, 6, 7], [1, 2, 3]]
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    together = generate(model, torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7], [1, 2, 3, 0]]), mask, **settings).tokens
    alone = [generate(model, torch.tensor([row]), **settings).tokens[0] for row in prompts]
    assert together[:2] == alone[:2]
    assert together[2] != together[0]  # equal prompts are drawn apart
    assert generate(model, torch.tensor([[1, 2, 3], [1, 2, 3]]), **settings).tokens == [together[0], together[2]]


def test_global_generators_and_the_mode_of_the_model_are_left_alone(model):
    training = tiny(dropout=0.5).train()
    training.blocks[1].eval()
    before = torch.random.get_rng_state()
    made = generate(training, ids(1, 5), max_new_tokens=9, strategy="sample", generator=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert training.training
    assert training.blocks[0].training
    assert not training.blocks[1].asa.training
    assert made.tokens == generate(model, ids(1, 5), max_new_tokens=9, strategy="sample", generator=3).tokens


def shares(model, prompt, n=4000, **settings):
    rows = torch.tensor([prompt]).expand(n, -1)
    made = generate(model, rows, max_new_tokens=1, strategy="sample", generator=0, **settings)
    return torch.bincount(torch.tensor([row[-1] for row in made.tokens]), minlength=61) / n


def expected(model, prompt, temperature=1.0, top_k=0, top_p=1.0):
    """The distribution by its definition, token by token."""
    logits = model(torch.tensor([prompt]))[0, -1].double() / temperature
    if top_k:
        logits[logits < logits.sort(descending=True).values[top_k - 1]] = -torch.inf
    order = logits.argsort(descending=True)
    weights, before, kept = logits.softmax(0), 0.0, torch.zeros(61, dtype=torch.float64)
    for token in order.tolist():
        if before <= top_p:
            kept[token] = weights[token]
        before += float(weights[token])
    return (kept / kept.sum()).float()


@pytest.mark.parametrize(
    "settings",
    [{"top_p": 1.0}, {"top_p": 1.0, "temperature": 2.5}, {"top_p": 1.0, "top_k": 3, "temperature": 4.0}, {"top_p": 0.6, "temperature": 2.0},
     {"top_p": 0.5, "top_k": 5, "temperature": 3.0}],
)  # fmt: skip
def test_draws_follow_the_distribution(model, settings):
    prompt = [5, 6, 7]
    wanted, got = expected(model, prompt, **settings), shares(model, prompt, **settings)
    assert not got[wanted == 0].any()
    assert float((got - wanted).abs().max()) < 0.035  # four standard errors of a half in 4000
    assert int((wanted > 0).sum()) > 1


def test_no_temperature_and_one_candidate_are_greedy(model):
    prompts = ids(2, 5)
    greedy = generate(model, prompts, max_new_tokens=10).tokens
    for settings in ({"temperature": 0.0}, {"top_k": 1, "temperature": 5.0}, {"top_p": 1e-9, "temperature": 2.0}):
        assert generate(model, prompts, max_new_tokens=10, strategy="sample", generator=1, **settings).tokens == greedy


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "beam"}, "strategy: wanted one of greedy, sample, got 'beam'"),
        ({"on_overflow": "slide"}, "on_overflow: wanted one of crop, stop, error"),
        ({"max_new_tokens": 0}, "max_new_tokens: wanted at least 1, got 0"),
        ({"temperature": -1.0}, "temperature: wanted 0 or more"),
        ({"top_k": -1}, "top_k: wanted 0"),
        ({"top_p": 0.0}, "top_p: wanted more than 0 and at most 1, got 0.0"),
        ({"top_p": 1.5}, "top_p: wanted"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: wanted more than 0"),
        ({"no_repeat_ngram_size": -2}, "no_repeat_ngram_size: wanted 0"),
        ({"stop": [[]]}, "stop: wanted tokens, or sequences of at least one token"),
        ({"no_repeat_ngram_size": 1, "max_new_tokens": 70}, "no_repeat_ngram_size=1 leaves no token to go on with"),
    ],
)
def test_settings_out_of_range(model, settings, says):
    with pytest.raises(ValueError, match=says):
        generate(model, ids(1, 3), **settings)


def test_inputs_that_cannot_be_continued(model):
    with pytest.raises(ValueError, match=r"input_ids: wanted \[batch, time\] with at least one row, got \[3\]"):
        generate(model, torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="prompt 1 of 2 has no token"):
        generate(model, ids(2, 3), torch.tensor([[1, 1, 1], [0, 0, 0]]))
    with pytest.raises(ValueError, match=r"attention_mask: wanted the shape of input_ids, \[2, 3\]"):
        generate(model, ids(2, 3), torch.ones(2, 4))
    broken = tiny()
    broken.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the logits of a next token hold NaN"):
        generate(broken, ids(1, 3))


def test_memory_does_not_grow_with_the_text(model):
    """One state, whose size the position does not change."""
    _, short = model.prefill(ids(1, 3))
    _, long = model.prefill(ids(1, 60))
    assert short.numel_per_row() == long.numel_per_row()


def test_alignment_and_back():
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]])
    moved, alignment = align(tokens, mask)
    assert moved.tolist() == [[1, 2], [7, 8], [10, 12]]
    assert alignment.mask is None
    values = moved.unsqueeze(-1).float()
    assert alignment.restore(values)[..., 0].tolist() == [[1, 2, 2, 2], [0, 0, 7, 8], [0, 10, 10, 12]]
    assert alignment.last(values)[:, 0].tolist() == [2, 8, 12]
    ragged, alignment = align(tokens, torch.tensor([[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]))
    assert ragged.tolist() == [[1, 2, 3], [8, 0, 0], [0, 0, 0]]
    assert alignment.mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert alignment.n_real.tolist() == [3, 1, 0]
