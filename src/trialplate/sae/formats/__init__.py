"""Files of coders: read whatever a few projects write, write what SAELens reads.

`load_coder` finds the reader by the files that are there; nothing is fetched, no code in a file is run, and every reader asks for the exact set of
tensors that its format has. What a reader cannot express it refuses with what it is: a coder that loads computes what its own project computes.

    saelens              cfg.json + sae_weights.safetensors              (read and written; `saelens`)
    sparsify             cfg.json + sae.safetensors
    dictionary_learning  config.json + ae.pt, or checkpoints/ae_N.pt below one
    gemma_scope          params.npz (1), config.json + params.safetensors (2)
    llamascopium         config.json + sae_weights.safetensors or .pt
    state_dict           one .pt, .pth, .bin or .safetensors file of another name

Objects in memory, as SAEBench wants them, go through `saebench`."""

from trialplate.sae.formats.description import Description, describe, describe_coder
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.formats.loading import format_of, load_coder

__all__ = ["Description", "coder_digest", "describe", "describe_coder", "format_of", "load_coder"]
