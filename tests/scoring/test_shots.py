"""Few-shot prompts: own seed, never the item itself, the same for an item whatever the others are."""

import pytest

from trialplate.scoring import few_shot
from trialplate.tasks.items import Item

ITEMS = [Item(f"t/{k}", f"question {k}:", f" answer {k}") for k in range(12)]


def test_examples_stand_before_the_question():
    (prompt,) = few_shot(ITEMS[:1], ITEMS, k=2, seed=0)
    *examples, question = prompt.split("\n\n")
    assert question == ITEMS[0].prompt
    assert len(examples) == 2
    assert set(examples) <= {item.prompt + item.answer for item in ITEMS[1:]}


def test_an_item_is_never_its_own_example():
    for item, prompt in zip(ITEMS, few_shot(ITEMS, ITEMS, k=11, seed=3), strict=True):
        assert item.answer not in prompt.replace(" answer 1", " answer 1;") or prompt.count(item.prompt) == 1
        assert prompt.count(f"{item.prompt}") == 1
        assert item.prompt + item.answer not in prompt.split("\n\n")


def test_the_same_question_under_another_id_is_no_example_either():
    twin = Item("t/twin", ITEMS[0].prompt, " another answer")
    with pytest.raises(ValueError, match=r"item 't/0' wants 1 examples, 0 of 1 are not the item itself"):
        few_shot(ITEMS[:1], [twin], k=1, seed=0)


def test_a_draw_depends_on_seed_and_item_only():
    whole = few_shot(ITEMS, ITEMS, k=3, seed=7)
    assert few_shot(ITEMS[4:6], ITEMS[::-1], k=3, seed=7) == whole[4:6]
    assert few_shot(ITEMS, ITEMS + ITEMS[:3], k=3, seed=7) == whole
    assert few_shot(ITEMS, ITEMS, k=3, seed=8) != whole


def test_no_examples_leave_the_prompt_alone():
    assert few_shot(ITEMS, [], k=0, seed=0) == [item.prompt for item in ITEMS]


def test_too_few_examples_are_an_error():
    with pytest.raises(
        ValueError, match=r"wants 12 examples, 11 of 12 are not the item itself\. Give more examples or a smaller k"
    ):
        few_shot(ITEMS[:1], ITEMS, k=12, seed=0)
    with pytest.raises(ValueError, match="wants k >= 0 examples, got -1"):
        few_shot(ITEMS, ITEMS, k=-1, seed=0)
