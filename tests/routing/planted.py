"""Models whose weights are set by hand, so that it is known whether routing or the residual stream decides the margin.

Stream channels: 0 minus 10 the answer (the head reads nothing else; a difference, so that the mean that norms
take away is no part of it); 1-3 which slot to look for; 4-6 which slot to write; 7 what
to write; 8, 9 a constant that keeps the norms nearly fixed. Tokens: 0 writes +1 into slot 0, 1 writes -1 into slot 1, 2 writes 0 into slot 2;
tokens from 3 on write next to nothing anywhere and look for the slots in different degrees. Two layers, one head, three slots, no
feed-forward part, no refinement."""

import torch

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.config import ASMTrainConfig
from asa.utils.seed import generators_kept

TARGET, RIVAL = 20, 21
N_PROMPTS = 12
WIDTH = 16
CONSTANT = 6.0
ANSWER_AXIS = torch.tensor([1.0, -1.0])
_ANSWER, _LOOK, _WRITE, _CONTENT = [0, 10], slice(1, 4), slice(4, 7), 7


def prompts() -> torch.Tensor:
    """ids [prompt, 6]: two that write +1, two that write -1, one that writes 0, and the one that asks."""
    return torch.tensor([[2, 0, 1, 0, 1, 3 + i] for i in range(N_PROMPTS)])


def routing_decides() -> ASMLanguageModel:
    """Block 0 reads and adds nothing to the stream. Block 1 looks the answer up: its read weights alone decide whether +1 or -1 is read.

    What leaves block 0 therefore moves the margin through the routing of block 1 and in no other way."""
    model = _bare()
    for layer in (0, 1):
        _looks_up(model, layer)
    model.layers[0].out_proj.weight.data.zero_()
    return model.eval()


def residual_decides() -> ASMLanguageModel:
    """Reads differ from prompt to prompt and change nothing (all slots hold the same); the asking token carries the answer itself."""
    model = _bare()
    for layer in (0, 1):
        _looks_up(model, layer)
        model.layers[layer].Wk_write.weight.data.zero_()
    model.tok.weight.data[3 : 3 + N_PROMPTS, _ANSWER] = torch.linspace(-1, 1, N_PROMPTS).outer(ANSWER_AXIS / 2)
    return model.eval()


def _bare() -> ASMLanguageModel:
    cfg = ASMTrainConfig.from_dict(
        {
            "vocab_size": 24,
            "embed_dim": WIDTH,
            "num_layers": 2,
            "num_heads": 1,
            "num_slots": 3,
            "max_seq_len": 16,
            "tie_weights": False,
            "use_rope_keys": False,
            "use_alibi_write": False,
            "use_content_read": False,
            "use_slotspace_refine": False,
            "write_chunk_size": 1,
        }
    )
    with generators_kept():
        model = build_model_from_cfg(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        model.lm_head.weight[TARGET, _ANSWER] = ANSWER_AXIS
        model.lm_head.weight[RIVAL, _ANSWER] = -ANSWER_AXIS
        embedding = model.tok.weight
        embedding[:, 8], embedding[:, 9] = CONSTANT, -CONSTANT
        embedding[0, 4], embedding[0, _CONTENT] = 1, 1
        embedding[1, 5], embedding[1, _CONTENT] = 1, -1
        embedding[2, 6] = 1
        generator = torch.Generator().manual_seed(0)
        embedding[3 : 3 + N_PROMPTS, _LOOK] = 0.5 * torch.randn(N_PROMPTS, 3, generator=generator)
    return model


@torch.no_grad()
def _looks_up(model: ASMLanguageModel, layer: int) -> None:
    attention = model.layers[layer]
    attention.slot_keys[0, :3, :3] = 8 * torch.eye(3)
    attention.Wk_write.weight[:3, _WRITE] = 20 * torch.eye(3)
    attention.Wq_read.weight[:3, _LOOK] = torch.eye(3)
    attention.Wv_write.weight[0, _CONTENT] = 1
    attention.out_proj.weight[_ANSWER, 0] = 2 * ANSWER_AXIS


@torch.no_grad()
def rescaled(model: ASMLanguageModel, factor: float) -> ASMLanguageModel:
    """The same function with a stream `factor` times as large: norms divide it out. For untied weights without absolute positions."""
    model.tok.weight *= factor
    for block in model.blocks:
        block.asa.out_proj.weight *= factor
        block.mlp[3].weight *= factor
    return model
