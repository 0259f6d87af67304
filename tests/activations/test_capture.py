"""One pass: it reads what the modules compute, changes nothing, and leaves nothing behind."""

import gc

import pytest
import torch
from tests.activations.families import FAMILIES, ids, tiny

from trialplate.activations.batches import make_plan
from trialplate.activations.capture import captured, collect, plan_for, reading
from trialplate.activations.collectors.moments import UnitMoments
from trialplate.activations.errors import CaptureError
from trialplate.activations.sites import Point, choose


class Kept:
    """A collector that keeps everything, by document and position."""

    def __init__(self):
        self.rows = {}

    def update(self, values, tokens):
        for row, d, p in zip(values, tokens.document.tolist(), tokens.position.tolist(), strict=True):
            self.rows[d, p] = row.clone()


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


@pytest.fixture
def model():
    return tiny("gpt_neox")


def test_rows_are_those_of_each_text_alone(model):
    texts = [ids(1, n, seed=n)[0].tolist() for n in (5, 17, 9, 17, 2)]
    points = choose(model, ["L1.mlp_act", "L2.resid_post"])
    kept = {("a", p.name): [Kept()] for p in points}
    collect(model, plan_for(model, {"a": texts}, positions=40), points, kept)
    for number, text in enumerate(texts):
        alone = captured(model, torch.tensor([text]), points)
        for point in points:
            for position, row in enumerate(alone[point.name][0]):
                torch.testing.assert_close(kept["a", point.name][0].rows[number, position], row, rtol=1e-5, atol=1e-6)
    assert len(kept["a", "L1.mlp_act"][0].rows) == 50


def test_padding_on_either_side_changes_nothing(model):
    """Rows are read on the right; the same text with padding on the left under a mask gives the same numbers."""
    text, point = ids(1, 11), choose(model, ["L1.mlp_act"])
    plain = captured(model, text, point)["L1.mlp_act"][0]
    right = captured(model, torch.cat([text, text.new_zeros(1, 6)], 1), point)["L1.mlp_act"][0, :11]
    mask = torch.tensor([[0] * 6 + [1] * 11])
    found = []
    handle = model.module.gpt_neox.layers[1].mlp.dense_4h_to_h.register_forward_pre_hook(
        lambda _, args: found.append(args[0])
    )
    model.logits(torch.cat([text.new_zeros(1, 6), text], 1), mask)
    handle.remove()
    torch.testing.assert_close(found[0][0, 6:], plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(right, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_same_while_hooks_watch_and_afterwards(family):
    model = tiny(family)
    before = model.logits(ids())
    points = choose(model, ["*"])
    with reading(model, points, lambda name, values: None, stop=False) as run:
        assert torch.equal(run(ids()).logits, before)
    captured(model, ids(), points)  # ended by its own signal in the middle of the model
    assert torch.equal(model.logits(ids()), before)
    assert hooks_of(model) == 0


def test_nothing_after_the_last_site_is_computed(model):
    reached = []
    model.module.gpt_neox.layers[2].register_forward_pre_hook(lambda *_: reached.append("layer 2"))
    model.module.get_output_embeddings().register_forward_pre_hook(lambda *_: reached.append("head"))
    captured(model, ids(), choose(model, ["L1.mlp_act", "L0.resid_post"]))
    assert reached == []
    captured(model, ids(), choose(model, ["L2.resid_post"]))
    assert reached == ["layer 2"]


def test_hooks_are_removed_when_the_pass_fails(model):
    class Broken:
        def update(self, values, tokens):
            raise KeyboardInterrupt

    points = choose(model, ["*"])
    with pytest.raises(KeyboardInterrupt):
        collect(model, plan_for(model, {"a": [[1, 2]]}), points, {("a", points[0].name): [Broken()]})
    assert hooks_of(model) == 0


def test_activations_that_are_not_finite_are_an_error(model):
    points = choose(model, ["L0.mlp_act", "L1.mlp_act"])
    model.module.gpt_neox.layers[1].mlp.dense_h_to_4h.bias[3] = torch.nan
    with pytest.raises(CaptureError, match=r"at L1\.mlp_act are not all finite"):
        collect(model, plan_for(model, {"a": [[1, 2]]}), points, {})


def test_a_module_that_is_never_called_is_an_error(model):
    model.module.unused = torch.nn.Linear(2, 2)
    with pytest.raises(CaptureError, match=r"did not come by unused\.output"):
        captured(model, ids(), choose(model, ["L0.mlp_act", "unused.output"]))


def test_a_module_that_is_called_twice_has_no_single_value(model):
    model.module.gpt_neox.layers[1].mlp = model.module.gpt_neox.layers[0].mlp
    with pytest.raises(CaptureError, match="reached twice"):
        captured(model, ids(), choose(model, ["gpt_neox.layers.0.mlp.output", "L2.resid_post"]))


def test_a_module_that_does_not_work_token_by_token_is_an_error(model):
    with pytest.raises(CaptureError, match="one row a token"):
        captured(model, ids(), [Point("lm_head.output", None, "gpt_neox.rotary_emb", "output")])


def test_no_site_and_the_same_site_twice_are_errors(model):
    point = choose(model, ["L0.mlp_act"])
    with pytest.raises(CaptureError, match="no site was given"):
        captured(model, ids(), [])
    with pytest.raises(CaptureError, match="a site is read once"):
        captured(model, ids(), point * 2)


def test_texts_are_cut_to_the_window_of_the_model(model):
    plan = plan_for(model, {"a": [list(range(200))]})
    assert plan.n_tokens == {"a": model.max_length}
    assert plan_for(model, {"a": [list(range(200))]}, max_length=7).n_tokens == {"a": 7}


def test_half_precision_is_read_as_it_is():
    model = tiny("gpt2")
    model.module.to(torch.bfloat16)
    assert captured(model, ids(), choose(model, ["L0.mlp_act"]))["L0.mlp_act"].dtype == torch.bfloat16


def test_memory_stays_where_it_is_over_a_hundred_passes(model):
    points, plan = (
        choose(model, ["*"], "resid_post"),
        make_plan({"a": ids(8, 32).tolist()}, max_length=32, positions=256),
    )

    def once():
        collect(model, plan, points, {("a", p.name): [UnitMoments()] for p in points})

    def tensors():
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    once()
    before = tensors()
    for _ in range(100):
        once()
    assert tensors() <= before


def test_hooks_are_removed_when_a_later_point_is_none(model):
    good, bad = choose(model, ["L0.mlp_act"])[0], Point("elsewhere", 0, "transformer.h.0", "input")
    with pytest.raises(AttributeError):
        captured(model, ids(), [good, bad])
    assert hooks_of(model) == 0


def test_what_is_no_tensor_is_named(model):
    with pytest.raises(CaptureError, match="wanted a tensor, got a BaseModelOutputWithPast"):
        captured(model, ids(), choose(model, ["gpt_neox.output"]))
