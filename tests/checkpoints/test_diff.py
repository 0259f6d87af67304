"""Comparing manifests: each kind of difference is found, named once, and nothing else is reported."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trialplate.checkpoints.diff import DEFAULT_IGNORED, compare_keys
from trialplate.checkpoints.digest import with_content
from trialplate.checkpoints.keys import TensorInfo
from trialplate.checkpoints.manifest import state_manifest

F = TensorInfo


def nonzero(diff):
    return {kind: count for kind, count in diff.counts().items() if count}


def test_equal_manifests_are_the_same(tensors):
    manifest = state_manifest(tensors, content=True)
    diff = compare_keys(manifest, manifest)
    assert diff.is_same
    assert nonzero(diff) == {}
    assert diff.n_compared_content == len(tensors)
    assert diff.render() == "all 7 keys as in the golden manifest"


def test_nothing_to_compare_is_not_the_same():
    assert not compare_keys({}, {}).is_same
    ignored_only = {"h.0.attn.bias": F("F32", (1,))}
    assert not compare_keys(ignored_only, ignored_only).is_same


def test_missing_and_unexpected():
    diff = compare_keys({"a.w": F("F32", (2,)), "b.w": F("F32", (3,))}, {"a.w": F("F32", (2,)), "c.v": F("F32", (9,))})
    assert (diff.missing, diff.unexpected) == (("b.w",), ("c.v",))
    assert nonzero(diff) == {"missing": 1, "unexpected": 1}
    assert not diff.is_same
    assert "missing (1):\n  b.w" in diff.render()


def test_head_of_neox_may_have_its_old_or_its_new_name():
    old, new = {"embed_out.weight": F("F16", (9, 4))}, {"lm_head.weight": F("F16", (9, 4))}
    for golden, actual in ((old, new), (new, old)):
        diff = compare_keys(golden, actual)
        assert diff.is_same
        assert nonzero(diff) == {"renamed_allowed": 1}
        assert "(allowed)" in diff.render()
    assert nonzero(compare_keys(old, new, allowed_renames=())) == {"renamed": 1}


def test_gpt2_prefix_may_be_left_out():
    golden = {"h.0.ln_1.weight": F("F32", (4,)), "wte.weight": F("F32", (9, 4))}
    actual = {f"transformer.{name}": info for name, info in golden.items()}
    assert nonzero(compare_keys(golden, actual)) == {"renamed_allowed": 2}


@pytest.mark.parametrize(
    "name",
    [
        "gpt_neox.layers.0.attention.bias",
        "h.0.attn.bias",
        "gpt_neox.layers.3.attention.masked_bias",
        "transformer.h.1.attn.attention.masked_bias",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ],
)
def test_computed_buffers_are_ignored(name):
    base = {"w": F("F32", (2,))}
    assert compare_keys(base, {**base, name: F("BOOL", (1, 1, 8, 8))}).is_same
    assert not compare_keys(base, {**base, name: F("BOOL", (1, 1, 8, 8))}, ignore=()).is_same


@pytest.mark.parametrize(
    "name", ["h.0.attn.c_attn.bias", "gpt_neox.layers.0.attention.dense.bias", "layers.0.attn.out.bias"]
)
def test_real_biases_are_not_ignored(name):
    assert not compare_keys(
        {"w": F("F32", (2,))}, {"w": F("F32", (2,)), name: F("F32", (4,))}, ignore=DEFAULT_IGNORED
    ).is_same


def test_rename_is_recognised_by_content_whatever_the_name(tensors):
    golden = state_manifest(tensors, content=True)
    actual = dict(golden)
    actual["elsewhere.entirely"] = actual.pop("layers.0.q.weight")
    diff = compare_keys(golden, actual)
    assert [(r.old, r.new, r.evidence) for r in diff.renamed] == [
        ("layers.0.q.weight", "elsewhere.entirely", "content")
    ]
    assert nonzero(diff) == {"renamed": 1}
    assert not diff.is_same
    assert "not allowed, by content" in diff.render()


def test_same_shape_with_other_content_is_no_rename(tensors):
    golden = state_manifest(tensors, content=True)
    actual = dict(golden)
    actual["layers.0.z.weight"] = with_content(tensors["layers.0.q.weight"] + 1)
    del actual["layers.0.q.weight"]
    assert nonzero(compare_keys(golden, actual)) == {"missing": 1, "unexpected": 1}


def test_without_content_a_rename_is_paired_by_form_ending_and_layer():
    shape = F("F16", (4, 4))
    golden = {f"gpt_neox.layers.{n}.mlp.{part}.weight": shape for n in range(3) for part in ("up", "down")}
    actual = {name.replace("gpt_neox", "model"): info for name, info in golden.items()}
    diff = compare_keys(golden, actual)
    assert {(r.old, r.new) for r in diff.renamed} == {(name, name.replace("gpt_neox", "model")) for name in golden}
    assert {r.evidence for r in diff.renamed} == {"shape"}
    assert nonzero(diff) == {"renamed": 6}


def test_layer_numbers_are_never_paired_across():
    diff = compare_keys({"layers.0.w": F("F32", (2,))}, {"layers.1.w": F("F32", (2,))})
    assert nonzero(diff) == {"missing": 1, "unexpected": 1}


def test_transposed_rectangle_is_a_shape_change_with_a_hint():
    diff = compare_keys({"w": F("F32", (2, 3))}, {"w": F("F32", (3, 2))})
    assert diff.shape_changed[0].hint == "transposed"
    assert "w: wanted F32[2, 3], got F32[3, 2] (transposed)" in diff.render()
    assert compare_keys({"w": F("F32", (2, 3))}, {"w": F("F32", (2, 4))}).shape_changed[0].hint == ""


def test_transposed_square_is_found_by_content(tensors):
    golden = state_manifest(tensors, content=True)
    square = tensors["layers.0.q.weight"]
    actual = {**golden, "layers.0.q.weight": with_content(square.T.contiguous(), transposed=True)}
    diff = compare_keys(golden, actual)
    assert nonzero(diff) == {"content_changed": 1}
    assert diff.content_changed[0].hint == "transposed"


def test_swapped_matrices_name_each_other(tensors):
    golden = state_manifest(tensors, content=True)
    actual = {
        **golden,
        "layers.0.q.weight": golden["layers.0.k.weight"],
        "layers.0.k.weight": golden["layers.0.q.weight"],
    }
    hints = {change.key: change.hint for change in compare_keys(golden, actual).content_changed}
    assert hints == {
        "layers.0.q.weight": "has the content of layers.0.k.weight",
        "layers.0.k.weight": "has the content of layers.0.q.weight",
    }


def test_rows_in_another_order_are_other_content(tensors):
    golden = state_manifest(tensors, content=True)
    permuted = {**tensors, "embed.weight": tensors["embed.weight"][torch.tensor([1, 0, 2, 3, 4])]}
    diff = compare_keys(golden, state_manifest(permuted, content=True))
    assert nonzero(diff) == {"content_changed": 1}
    assert diff.content_changed[0].hint == ""


def test_dtype_change_is_said_once_and_not_as_content(tensors):
    golden = state_manifest(tensors, content=True)
    actual = state_manifest({**tensors, "embed.weight": tensors["embed.weight"].half()}, content=True)
    diff = compare_keys(golden, actual)
    assert nonzero(diff) == {"dtype_changed": 1}
    assert "embed.weight: wanted F32, got F16" in diff.render()


def test_two_names_of_one_key_are_refused():
    both = {"embed_out.weight": F("F32", (1,)), "lm_head.weight": F("F32", (1,))}
    with pytest.raises(ValueError, match="golden manifest has both"):
        compare_keys(both, {})


def test_render_stays_short():
    golden = {f"k{n}.a": F("F32", (n + 1,)) for n in range(30)}
    text = compare_keys(golden, {"x": F("I8", (1, 2, 3))}).render(limit=5)
    assert "… and 25 more" in text
    assert len(text.splitlines()) == 10


names = st.text("ab.01", min_size=1, max_size=6)
infos = st.builds(
    TensorInfo,
    st.sampled_from(["F32", "F16"]),
    st.sampled_from([(2,), (3,), (2, 3)]),
    st.none() | st.sampled_from(["x", "y"]),
)


@given(st.dictionaries(names, infos, max_size=8), st.dictionaries(names, infos, max_size=8))
def test_every_key_is_accounted_for_exactly_once(golden, actual):
    diff = compare_keys(golden, actual)
    found_old = list(diff.missing) + [r.old for r in diff.renamed]
    found_new = list(diff.unexpected) + [r.new for r in diff.renamed]
    assert sorted(found_old) == sorted(golden.keys() - actual.keys())
    assert sorted(found_new) == sorted(actual.keys() - golden.keys())
    assert diff.is_same == (golden == actual_of(golden, actual) and bool(golden))


def actual_of(golden, actual):
    """The actual manifest with contents dropped where golden has none to compare, and the other way round."""
    adjusted = {}
    for name, info in actual.items():
        wanted = golden.get(name)
        if (
            wanted
            and (wanted.dtype, wanted.shape) == (info.dtype, info.shape)
            and None in (wanted.content, info.content)
        ):
            info = wanted
        adjusted[name] = info
    return adjusted
