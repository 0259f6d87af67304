"""Every golden layer case: outputs, records and gradients of the public reference implementation."""

import pytest
import torch
from tests.asa.golden_cases import arguments, build_layer, of_kind, part, run_layer, tensors
from torch.testing import assert_close

pytestmark = pytest.mark.fast
LAYERS = [pytest.param(case, id=case["name"]) for case in of_kind("layer")]


def compared(case, mine, theirs, name):
    if case["finite"]:
        assert_close(mine, theirs, **case["tolerance"], msg=lambda text: f"{name}: {text}")
    else:  # the reference has NaN in rows with leading padding; ours are finite there, and equal elsewhere
        assert torch.isfinite(mine).all(), name
        clean = ~theirs.isnan().flatten(1).any(1) if theirs.ndim > 1 else ~theirs.isnan()
        assert_close(mine[clean], theirs[clean], **case["tolerance"])


@pytest.mark.parametrize("case", LAYERS)
def test_outputs_and_records(case):
    found = tensors(case)
    y, info = run_layer(case)
    compared(case, y, found["out.y"], "y")
    for name, theirs in part(found, "info.").items():
        if case["finite"]:
            compared(case, info[name].to(theirs.dtype), theirs, name)


@pytest.mark.parametrize(
    "case", [c for c in LAYERS if not c.values[0]["attrs"] and not c.values[0].get("routing_override")]
)
def test_outputs_without_record(case):
    found = tensors(case)
    y, info = run_layer(case, return_info=False)
    assert info is None
    compared(case, y, found["out.y"], "y")


@pytest.mark.parametrize("case", [c for c in LAYERS if c.values[0].get("has_grad")])
@pytest.mark.parametrize("return_info", [False, True])
def test_gradients(case, return_info):
    found = tensors(case)
    layer = build_layer(case, found)
    x = found["in.x"].clone().requires_grad_()
    y, _ = layer(x, return_info=return_info, **arguments(case, found))
    (y * found["in.grad_weight"]).sum().backward()
    mine = {"x": x.grad, **{name: p.grad for name, p in layer.named_parameters()}}
    theirs = part(found, "grad.")
    assert set(theirs) == set(mine)
    for name, gradient in theirs.items():
        assert_close(mine[name], gradient, **case["tolerance"], msg=lambda text, name=name: f"{name}: {text}")
