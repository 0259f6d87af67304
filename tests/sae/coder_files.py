"""Files of coders written by hand, and what they mean, in plain formulas: nothing of the package is used to make or to judge them."""

import json

import torch

D, M, OUT = 6, 14, 4


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(100 * seed + sum(shape)))


X = numbers(30, D, seed=9)


def parts(d=D, m=M, out=None, seed=0):
    """W_enc [d, m], b_enc [m], W_dec [m, out], b_dec [out], threshold [m] above 0."""
    out = d if out is None else out
    return {
        "W_enc": numbers(d, m, seed=seed + 1),
        "b_enc": numbers(m, seed=seed + 2),
        "W_dec": numbers(m, out, seed=seed + 3),
        "b_dec": numbers(out, seed=seed + 4),
        "threshold": numbers(m, seed=seed + 5).abs(),
    }


def settings(path, **entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))


def pre(p, x=X, centred=True):
    return (x - p["b_dec"] if centred else x) @ p["W_enc"] + p["b_enc"]


def largest(z, k, by=None):
    """The k largest entries of every row (by another score, where given), the others 0."""
    rank = (z if by is None else by).argsort(1, descending=True)[:, :k]
    return torch.zeros_like(z).scatter(1, rank, z.gather(1, rank))


def jump(z, threshold):
    return z.relu() * (z > threshold)


def computes(coder, code, y, x=X):
    """Whether a coder encodes and writes these; up to the rounding of another order of additions."""
    ours = coder.encode(x).dense()
    torch.testing.assert_close(ours, code, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(coder(x), y, rtol=1e-5, atol=2e-5)
    assert torch.equal(ours != 0, code != 0)
    assert (code != 0).any()
    return True
