"""Files of sparsify: cfg.json and sae.safetensors, one folder a hookpoint (`layers.5.mlp/`, `h.3/`; below it `seed0/` where there are several).

    tensors   encoder.weight [m, d], encoder.bias [m], W_dec [m, d], b_dec [d]; W_skip [d, d]
    function  f = the k largest of relu(W_enc (x - b_dec) + b_enc), b_dec taken off only where transcode is false; y = f W_dec + b_dec (+ W_skip x)

W_dec occurs transposed where another tool had the file in hand; its shape says so. A hookpoint is the name of a module below the base model, whose
output is read (a transcoder reads its input)."""

from __future__ import annotations

import re
from pathlib import Path

from trialplate.sae.coder import Coder
from trialplate.sae.errors import FormatError
from trialplate.sae.formats.assembly import assemble, configure
from trialplate.sae.formats.settings import Settings, read_settings
from trialplate.sae.formats.tensors import read_safetensors


def read(folder: Path | str) -> Coder:
    """The coder in a folder. FormatError for other files, and for groupmax and signed coders, which choose latents in a way that no coder here does."""
    folder = Path(folder)
    said, tensors = read_settings(folder / "cfg.json"), read_safetensors(folder / "sae.safetensors")
    _refuse_other_activations(said)
    skip, transcode = said.flag("skip_connection", absent=False), said.flag("transcode", absent=False)
    tensors.exact(["encoder.weight", "encoder.bias", "W_dec", "b_dec", *(["W_skip"] if skip else [])])
    d_in, d_sae, d_out = said.integer("d_in"), tensors.length("encoder.bias"), tensors.length("b_dec")
    _check_sizes(said, d_in, d_sae, d_out)
    site_in, site_out = _sites(folder, transcode)
    config = configure(
        said.where,
        architecture="topk",
        d_in=d_in,
        d_sae=d_sae,
        k=said.integer("k"),
        centre_input=not transcode,
        skip=skip,
        site_in=site_in,
        site_out=site_out,
        model=_model(folder),
        about={"format": "sparsify", "config": said.entries},
    )
    taken = {
        "encoder": tensors.take("encoder.weight", d_sae, d_in),
        "b_enc": tensors.take("encoder.bias", d_sae),
        "W_dec": tensors.latents_first("W_dec", d_sae, d_out, stored="latents first"),
        "b_dec": tensors.take("b_dec", d_out),
    }
    if skip:
        taken["W_skip"] = tensors.take("W_skip", d_out, d_in)
    return assemble(config, taken)


def _refuse_other_activations(said: Settings) -> None:
    activation = said.entries.get("activation", "topk")  # early files have none: there was only this
    if activation != "topk":
        raise FormatError(f"{said.where}: activation is {activation!r}, one latent of each of k groups; read is topk")
    if said.entries.get("signed"):
        raise FormatError(f"{said.where}: signed, which ranks by magnitude; no coder here does")


def _check_sizes(said: Settings, d_in: int, d_sae: int, d_out: int) -> None:
    said.agree(d_in=d_out)
    number = said.entries.get("num_latents") or d_in * said.integer("expansion_factor")
    if number != d_sae:
        raise FormatError(f"{said.where} says {number} latents, and encoder.bias has {d_sae}")


def _sites(folder: Path, transcode: bool) -> tuple[str, str]:
    """The sites by the folder's name: `layers.5` and `h.5` are a layer's output; of other modules, the path with .input or .output."""
    name = folder.resolve()
    name = name.parent if re.fullmatch(r"seed\d+", name.name) else name
    hookpoint = name.name
    if not re.fullmatch(r"(\w+\.)*(layers|h)\.\d+(\.\w+)*", hookpoint):
        return "", ""
    if found := re.fullmatch(r"(?:\w+\.)*(?:layers|h)\.(\d+)", hookpoint):
        here = f"L{found[1]}.resid_post"
        return (f"L{found[1]}.resid_pre" if transcode else here), here
    return f"{hookpoint}.{'input' if transcode else 'output'}", f"{hookpoint}.output"


def _model(folder: Path) -> str:
    """The model that the run's own config.json names, one or two folders up; "" where there is none."""
    for above in folder.resolve().parents[:2]:
        if (above / "config.json").is_file():
            return read_settings(above / "config.json").text("model")
    return ""
