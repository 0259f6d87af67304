"""Scoring, the slow obvious way: one text at a time, no padding, no sharing, full logits of every position, float64 softmax.

The reference form of `trialplate.scoring`: what it returns must agree with these few lines up to rounding. `model` is anything with `tokenizer`
(encode, decode, eos_id), `prefix_id`, `max_length`, `device` and `logits(ids [1, seq_len]) -> [1, seq_len, vocab]`."""

from __future__ import annotations

import torch


def next_token_table(model, ids):
    """Log-probabilities [seq_len, vocab]: row t is what the model says after ids[: t + 1]."""
    return model.logits(torch.tensor([list(ids)], device=model.device))[0].cpu().double().log_softmax(-1)


def slow_pair(model, context, continuation):
    """Tokens that are given, and tokens that are scored, of two texts."""
    while context and context[-1].isspace():
        context, continuation = context[:-1], context[-1] + continuation
    if context == "":
        scored = model.tokenizer.encode(continuation)
        if scored and scored[0] == model.prefix_id:
            return scored[:1], scored[1:]
        return [model.prefix_id], scored
    given = model.tokenizer.encode(context)
    return given, model.tokenizer.encode(context + continuation)[len(given) :]


def slow_loglikelihood_ids(model, given, scored):
    """(log-probability of `scored` after `given`, whether each scored token is the most likely one)."""
    whole = list(given) + list(scored)
    whole = whole[-(model.max_length + 1) :]
    table = next_token_table(model, whole[:-1])
    first = len(whole) - len(scored)
    total, is_greedy = 0.0, True
    for t in range(first, len(whole)):
        total += table[t - 1, whole[t]].item()
        is_greedy = is_greedy and table[t - 1].argmax().item() == whole[t]
    return total, is_greedy


def slow_loglikelihood(model, context, continuation):
    """`slow_loglikelihood_ids` of two texts."""
    return slow_loglikelihood_ids(model, *slow_pair(model, context, continuation))


def slow_rolling(model, text):
    """(log-probability, number of tokens) of a whole text: windows of max_length tokens, each scored once.

    The first window follows the prefix token, a full one the token before it, and the last reads as far back as its window allows."""
    ids = model.tokenizer.encode(text)
    total = 0.0
    for start in range(0, len(ids), model.max_length):
        scored = ids[start : start + model.max_length]
        end = start + len(scored)
        given = [model.prefix_id] if start == 0 else ids[end - model.max_length - 1 : start]
        total += slow_loglikelihood_ids(model, given, scored)[0]
    return total, len(ids)


def slow_token_logprobs(model, ids):
    """Log-probability of each token after the first, and whether it is the most likely one."""
    table = next_token_table(model, ids[:-1])
    return (
        [table[t - 1, ids[t]].item() for t in range(1, len(ids))],
        [table[t - 1].argmax().item() == ids[t] for t in range(1, len(ids))],
    )


def slow_generate(model, prompt, max_new_tokens, stop=()):
    """Greedy continuation of one prompt, the whole text run again for every token."""
    ids = (model.tokenizer.encode(prompt) or [model.prefix_id])[-(model.max_length - max_new_tokens) :]
    new = []
    for _ in range(max_new_tokens):
        token = int(next_token_table(model, ids + new)[-1].argmax())
        if token == model.tokenizer.eos_id:
            break
        new.append(token)
        text = model.tokenizer.decode(new)
        if any(string in text for string in stop):
            return text[: min(text.index(string) for string in stop if string in text)]
    return model.tokenizer.decode(new)
