"""What a trained model can do, on items that it was not trained on unless the score's name says so.

Plain and slow on purpose: training decides with this whether it is done, so it shares no code with the scoring engine that later
measures the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from trialplate.tasks.items import Encode, Item
from trialplate.tasks.probes.agreement import agreement_items
from trialplate.tasks.probes.arithmetic import arithmetic_items
from trialplate.tasks.probes.facts import capital_items, fact_items
from trialplate.tasks.probes.greater_than import greater_than_items, year_token_ids
from trialplate.tasks.probes.induction import InductionSequence, induction_over_vocabulary, induction_over_words
from trialplate.tasks.probes.ioi import ioi_items

BATCH = 128


@dataclass(frozen=True, slots=True)
class Score:
    """A share of n items (or, for greater_than, a mean over them)."""

    value: float
    n: int


@torch.inference_mode()
def last_logits(model: nn.Module, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Logits [n, vocab] behind each prompt, float32 on the CPU. Padding is on the right, so no position of a prompt sees it."""
    device = next(model.parameters()).device
    out = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        width = max(map(len, part))
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in part], device=device)
        last = torch.tensor([len(ids) - 1 for ids in part], device=device)
        out.append(model(input_ids=ids).logits[torch.arange(len(part), device=device), last].float().cpu())
    return torch.cat(out)


def accuracy(model: nn.Module, encode: Encode, items: Sequence[Item]) -> Score:
    """Share of items whose answer (one token) is the most likely of all tokens."""
    picks = last_logits(model, [encode(item.prompt) for item in items]).argmax(-1).tolist()
    right = [pick == _one(encode, item.answer) for pick, item in zip(picks, items, strict=True)]
    return Score(sum(right) / len(right), len(right))


def preference(model: nn.Module, encode: Encode, items: Sequence[Item]) -> Score:
    """Share of items whose answer is more likely than the first foil (each one token)."""
    logits = last_logits(model, [encode(item.prompt) for item in items])
    pairs = torch.tensor([(_one(encode, item.answer), _one(encode, item.foils[0])) for item in items])
    answer, foil = logits.gather(1, pairs).unbind(1)
    return Score((answer > foil).double().mean().item(), len(items))


def greater_than_difference(model: nn.Module, encode: Encode, items: Sequence[Item]) -> Score:
    """Mean of P(y > year) - P(y <= year) over the hundred two-digit tokens; probability elsewhere counts for neither. Range -1..1."""
    years = torch.tensor(year_token_ids(encode))
    probabilities = last_logits(model, [encode(item.prompt) for item in items]).softmax(-1)[:, years]
    begins = torch.tensor([int(item.meta["year"]) for item in items]).unsqueeze(1)
    sign = torch.where(torch.arange(100) > begins, 1.0, -1.0)
    return Score((sign * probabilities).sum(-1).double().mean().item(), len(items))


@torch.inference_mode()
def induction_accuracy(model: nn.Module, sequences: Sequence[InductionSequence]) -> Score:
    """Share of second-block tokens (the first excepted) that are predicted from the first block."""
    ids = torch.tensor([sequence.ids for sequence in sequences], device=next(model.parameters()).device)
    targets = sequences[0].second_half_targets
    picks = model(input_ids=ids).logits.argmax(-1)[:, targets.start - 1 : targets.stop - 1]
    right = picks == ids[:, targets.start : targets.stop]
    return Score(right.double().mean().item(), right.numel())


def scores(model: nn.Module, tokenizer: Tokenizer, seed: int) -> dict[str, Score]:
    """Every score of the model card, by name; `seed` draws the items."""
    encode = _encoder(tokenizer)
    agree, sums = agreement_items, arithmetic_items
    ioi = ioi_items(encode, 400, seed)
    vocab = tokenizer.get_vocab_size()
    exact: dict[str, list[Item]] = {
        "ioi_abba": [item for item in ioi if item.meta["order"] == "ABBA"],
        "ioi_baba": [item for item in ioi if item.meta["order"] == "BABA"],
        "ioi_held_out_template": ioi_items(encode, 400, seed, template="held_out"),
        "capitals_trained": capital_items(encode, None, seed),
        "capitals_held_out": capital_items(encode, None, seed, split="heldout"),
        "countries_of_capitals": fact_items(encode, None, seed, relation="reverse"),
        "languages": fact_items(encode, None, seed, relation="language"),
        "continents": fact_items(encode, None, seed, relation="continent"),
        "add_20": sums(encode, 200, seed, operation="add"),
        "sub_20": sums(encode, 200, seed, operation="sub"),
        "add_20_held_out": sums(encode, None, seed, operation="add", split="heldout"),
        "sub_20_held_out": sums(encode, None, seed, operation="sub", split="heldout"),
        "sub_99": sums(encode, 200, seed, operation="sub", largest=99),
    }
    found = {name: accuracy(model, encode, items) for name, items in exact.items()}
    found["add_99"] = accuracy(
        model, encode, [i for i in sums(encode, 400, seed, operation="add", largest=99) if int(i.answer) < 100]
    )
    found["agreement_plain"] = preference(model, encode, agree(encode, None, seed, attractor=False))
    found["agreement_attractor"] = preference(model, encode, agree(encode, 200, seed, attractor=True))
    found["greater_than"] = greater_than_difference(model, encode, greater_than_items(encode, 200, seed))
    found["induction_words"] = induction_accuracy(model, induction_over_words(encode, 50, seed, length=25))
    found["induction_any_token"] = induction_accuracy(
        model, induction_over_vocabulary(vocab, 50, seed, length=25, excluded=(0,))
    )
    return found


def _encoder(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return lambda text: list(tokenizer.encode(text).ids)


def _one(encode: Encode, text: str) -> int:
    ids = encode(text)
    if len(ids) != 1:
        raise ValueError(f"{text!r} is {len(ids)} tokens; these scores compare single tokens")
    return ids[0]
