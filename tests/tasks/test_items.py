"""Items: identity by content, digests that notice any change, and no silent shortage."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialplate.tasks.items import Item, items_digest, make_item, take


def test_id_is_hand_checked():
    # sha256 of '["The capital of France is"," Paris",[" Rome"]]', first twelve digits
    item = make_item("facts", "The capital of France is", " Paris", (" Rome",), group="France", year=1)
    assert item.id == "facts/acbec5c10822"
    assert item.meta == {"year": 1}


def test_id_follows_content_and_not_description():
    plain = make_item("t", "a", "b", ("c",))
    assert make_item("t", "a", "b", ("c",), group="g", k=1).id == plain.id
    assert (
        len(
            {
                plain.id,
                make_item("t", "a", "b").id,
                make_item("t", "a", "c", ("c",)).id,
                make_item("u", "a", "b", ("c",)).id,
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    "change", [{"prompt": "x"}, {"answer": "x"}, {"foils": ("x",)}, {"group": "x"}, {"meta": {"k": 2}}, {"id": "x"}]
)
def test_digest_sees_every_field(change):
    item = Item("t/1", "p", "a", ("f",), "g", {"k": 1})
    assert items_digest([dataclasses.replace(item, **change)]) != items_digest([item])


def test_digest_sees_order_and_number():
    a, b = make_item("t", "a", "b"), make_item("t", "c", "d")
    assert len({items_digest(x) for x in ([a, b], [b, a], [a], [a, a], [])}) == 5


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_any_text_makes_an_item(prompt, answer, foils):
    item = make_item("t", prompt, answer, foils)
    assert item == make_item("t", prompt, answer, foils)
    assert len(items_digest([item])) == 64
    hash(item)


def test_take_never_returns_fewer():
    items = [make_item("t", str(i), "a") for i in range(3)]
    assert take(items, 2, "t") == items[:2]
    assert take(items, None, "t") == items
    with pytest.raises(ValueError, match=r"t: asked for 4 items, only 3 exist"):
        take(items, 4, "t")
    with pytest.raises(ValueError, match="n must be at least 1"):
        take(items, 0, "t")
    with pytest.raises(ValueError, match="only 0 exist"):
        take([], None, "t")
