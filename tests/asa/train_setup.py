"""A model and a text so small that a training of a few steps takes a fraction of a second; and what a checkpoint is compared by."""

import hashlib

import torch

from asa.config import ASMTrainConfig
from asa.train import TrainSettings, fresh_model

VOCAB = 29


def tiny_cfg(**changes):
    small = {
        "vocab_size": VOCAB,
        "embed_dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "num_slots": 4,
        "slotspace_dim": 4,
        "max_seq_len": 16,
        "write_chunk_size": 8,
        "dropout": 0.0,
        "slot_dropout": 0.0,
        "slotspace_dropout": 0.0,
    }
    return ASMTrainConfig.from_dict({**small, **changes})


def tiny_model(seed=0, **changes):
    return fresh_model(tiny_cfg(**changes), seed)


def tiny_settings(**changes):
    small = {
        "seq_len": 16,
        "batch_size": 4,
        "total_steps": 6,
        "warmup_steps": 2,
        "learning_rate": 1e-2,
        "log_interval": 2,
        "eval_interval": 3,
        "checkpoint_interval": 3,
    }
    return TrainSettings(**{**small, **changes})


def text(n=800, seed=0):
    """Ids in which each follows from the one before by one of two rules, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    ids, jumps = [1], torch.randint(2, (n,), generator=generator).tolist()
    for jump in jumps[1:]:
        ids.append((3 * ids[-1] + 1 + jump) % VOCAB)
    return torch.tensor(ids)


def digest(state):
    """SHA-256 over the names and bytes of a state dict."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode() + state[name].detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def container(folder, name="last.pt"):
    return torch.load(folder / "checkpoints" / name, weights_only=True)
