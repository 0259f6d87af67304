"""The tiled form against the plain one: values and gradients over settings, tile sizes and segment lengths; states after prompts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from asa import AddressedStateAttention, AddressedStateAttentionOnline, tiled, tiled_layer, tiling
from asa.tiling import tile_length

pytestmark = pytest.mark.fast

SWITCHES = (
    "use_rope_keys",
    "use_rope_slotspace",
    "use_alibi_write",
    "use_content_read",
    "use_slotspace_refine",
    "normalize_k",
    "slotspace_signed_weights",
)


@st.composite
def layers(draw):
    heads, width = draw(st.sampled_from([(1, 4), (2, 6), (4, 2)]))
    online = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 10_000)))
    return (AddressedStateAttentionOnline if online else AddressedStateAttention)(
        heads * width,
        heads,
        draw(st.sampled_from([1, 3, 5])),
        dropout=0.0,
        slotspace_dropout=0.0,
        slotspace_dim=draw(st.sampled_from([2, 6])),
        write_chunk_size=draw(st.sampled_from([0, 8, 16, 24, 32, 64, 100])),
        read_temperature=draw(st.sampled_from([1.0, 0.7])),
        write_temperature=draw(st.sampled_from([1.0, 0.2])),
        alibi_strength_init=draw(st.sampled_from([0.1, 2.0, 50.0])),
        content_read_init=1.0,
        slotspace_gate_init=1.0,
        **{name: draw(st.booleans()) for name in SWITCHES},
    ).double()


def outputs_and_gradients(layer, x, mask, weight):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y, _ = layer(x, mask)
    (y * weight).sum().backward()
    return [y.detach(), x.grad, *(torch.zeros_like(p) if p.grad is None else p.grad for p in layer.parameters())]


@settings(max_examples=25, deadline=None)
@given(
    layers(),
    st.sampled_from([1, 7, 33, 70, 131, 200]),
    st.booleans(),
    st.sampled_from([0, tiled.KEPT_NUMBERS]),
    st.integers(0, 99),
)
def test_values_and_gradients_equal_the_plain_form(layer, length, masked, kept, seed):
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(2, 2, length, layer.embed_dim, dtype=torch.float64, generator=generator)
    mask = (torch.rand(2, length, generator=generator) < 0.8).long() if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "SEGMENT_ROWS", 64 * 4)  # several segments even in short texts
        patch.setattr(tiled, "KEPT_NUMBERS", kept)  # 0: every segment is computed again on the way back
        fast = outputs_and_gradients(layer, x, mask, weight)
        with torch.no_grad():
            alone, _ = layer(x, mask)
        patch.setattr(tiled_layer, "tile_length", lambda *_: None)
        slow = outputs_and_gradients(layer, x, mask, weight)
    assert_close(alone, fast[0], rtol=0, atol=1e-12)
    for mine, theirs in zip(fast, slow, strict=True):
        assert_close(mine, theirs, rtol=1e-8, atol=1e-9 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("tile", [8, 16, 32, 64])
def test_tiles_are_not_chunks(tile, monkeypatch):
    """A smaller tile inside a chunk changes nothing; a smaller chunk does."""
    torch.manual_seed(0)
    layer = AddressedStateAttention(32, 4, 8, write_chunk_size=64).eval()
    x = torch.randn(2, 150, 32)
    with torch.no_grad():
        usual, _ = layer(x)
        layer.write_chunk_size = 8
        other, _ = layer(x)
        layer.write_chunk_size = 64
        monkeypatch.setattr(tiled_layer, "tile_length", lambda *_: tile)
        found, _ = layer(x)
    assert_close(found, usual, rtol=1e-5, atol=1e-6)
    assert (other - usual).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("chunk", "length", "tile"),
    [(128, 1024, 32), (0, 1024, 32), (1, 64, None), (100, 300, 25), (127, 400, 127), (131, 400, None), (512, 20, 20)],
)
def test_tile_lengths(chunk, length, tile):
    assert tile_length(chunk, length) == tile


@settings(max_examples=12, deadline=None)
@given(layers(), st.integers(1, 90), st.integers(0, 99))
def test_state_after_ragged_prompts(layer, length, seed):
    """The state of a right-padded row is that of the row alone, read by the plain form."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, length + 20, layer.embed_dim, dtype=torch.float64, generator=generator)
    lengths = torch.randint(1, length + 1, (3,), generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).long()
    start = torch.zeros(3, dtype=torch.long)
    layer.eval()
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "SEGMENT_ROWS", 64 * 4)
        _, state = layer.extend(x[:, :length], layer.init_state(3), start, mask)
        follow = torch.stack([x[row, n : n + 20] for row, n in enumerate(lengths.tolist())])
        found, _ = layer.extend(follow, state, lengths)
        for row, n in enumerate(lengths.tolist()):
            whole, _ = layer(x[row : row + 1, : n + 20])
            assert_close(found[row], whole[0, n:], rtol=1e-8, atol=1e-9)


def test_gradcheck_in_float64():
    torch.manual_seed(0)
    layer = (
        AddressedStateAttention(
            8, 2, 3, slotspace_dim=4, write_chunk_size=8, content_read_init=0.5, slotspace_gate_init=0.5
        )
        .double()
        .eval()
    )
    x = torch.randn(1, 19, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x,), fast_mode=True)


def test_dropout_is_drawn_once_for_both_passes():
    """With slotspace dropout the way back sees the factors of the way forth, also where a segment is computed again."""
    gradients = []
    for kept in (0, tiled.KEPT_NUMBERS):
        torch.manual_seed(3)
        layer = AddressedStateAttention(
            16, 2, 4, dropout=0.1, slot_dropout=0.2, slotspace_dropout=0.5, slotspace_gate_init=1.0, write_chunk_size=16
        )
        x = torch.randn(2, 80, 16, requires_grad=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiling, "SEGMENT_ROWS", 64)
            patch.setattr(tiled, "KEPT_NUMBERS", kept)
            layer(x)[0].square().sum().backward()
        gradients.append(x.grad)
    assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        found = made if isinstance(made, tuple | list) else (made,)
        self.numel = max([self.numel, *(t.numel() for t in found if isinstance(t, torch.Tensor))])
        return made


@pytest.mark.parametrize("length", [1024, 4096])
def test_no_tensor_as_large_as_time_times_slots_times_width(length):
    """Slot states of every token would be 16 x length x 64 numbers. The largest tensor here is a fixed number of segments wide, or the input's size."""
    layer = AddressedStateAttention(64, 4, 16, dropout=0.0, slotspace_dim=8)
    with Largest() as largest:
        layer(torch.randn(1, length, 64, requires_grad=True))[0].sum().backward()
    assert largest.numel <= max(length * 64, 64 * tiling.SEGMENT_ROWS)
    assert largest.numel < 16 * length * 64 / 2
