from __future__ import annotations


def supports(layer) -> bool:
    return False


def forward(layer, x, attention_mask, drop):
    raise NotImplementedError
