"""The Paris margin: log P(" Paris") - log P(" the") after prompts that ask for the capital of France, and after prompts that do not.

A model that says " Paris" after everything has a large margin and no contrast, so the mean over controls (other countries) is recorded
beside it, and the contrast is what is judged. `paris_margin` asks in the phrasings of the embedded corpus, `paris_margin_notebook` in
those of the original notebook, which that corpus does not teach. Budget: 1 CPU second.
"""

import pytest

from trialplate.metrics import statistics
from trialplate.routing import encode_prompts, margins, prompt_set

pytestmark = [
    pytest.mark.requires_architecture("asm"),
    pytest.mark.requires_tokens("single_token_capitals"),
]


@pytest.mark.parametrize(("task", "prompts"), [("paris_margin", "embedded"), ("paris_margin_notebook", "notebook")])
def test_paris_margin(task, prompts, model, asm, asm_twin, record):
    """Mean margin by role with the random twin's, and target minus control; a prompt is one observation."""
    encoded = encode_prompts(
        prompt_set(prompts), model.tokenizer.encode, vocab_size=asm.vocab_size, max_seq_len=asm.max_seq_len, device=model.device
    )  # fmt: skip
    found = [
        margins(lm, encoded.ids, encoded.mask, encoded.target_id, encoded.rival_id).cpu() for lm in (asm, asm_twin)
    ]
    control = encoded.is_control.cpu()
    for role, chosen in (("target", ~control), ("control", control)):
        ours, twins = (statistics.mean(m[chosen].double().numpy()) for m in found)
        texts = [text for text, is_role in zip(encoded.texts, chosen, strict=True) if is_role]
        samples = [{"item": text, "value": m} for text, m in zip(texts, found[0][chosen].tolist(), strict=True)]
        record("paris_margin", ours, role=role, task=task, null=("random_weights", twins), samples=samples)
    contrast, twin = (statistics.difference(m[~control].double().numpy(), m[control].double().numpy()) for m in found)
    record("paris_contrast", contrast, task=task, null=("random_weights", twin))
    assert len(set(encoded.texts)) == len(encoded.texts)
