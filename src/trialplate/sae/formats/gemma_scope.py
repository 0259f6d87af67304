"""Files of Gemma Scope: params.npz (1), config.json and params.safetensors (2). All are jumprelu coders that read x as it is.

    1   W_enc [d_in, m], W_dec [m, d_out], b_enc [m], b_dec [d_out], threshold [m]
    2   the same in lower case, w_enc and so on; affine_skip_connection [d_in, d_out], which is W_skip transposed

Version 1 has no configuration: what its coders read follows from the names of their folders, `gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`, where
these were kept; sites are "" where they were not. Coders of the embedding were trained on embeddings before the model multiplies them by sqrt(d_in);
that is folded, so that they read L0.resid_pre. Transcoders read the normalised stream before the norm's own weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from trialplate.sae.coder import Coder
from trialplate.sae.errors import FormatError
from trialplate.sae.formats import folding
from trialplate.sae.formats.assembly import assemble, configure
from trialplate.sae.formats.settings import read_settings
from trialplate.sae.formats.tensors import Tensors, read_npz, read_safetensors

_SITES = {
    "res": ("L{n}.resid_post", "L{n}.resid_post"),
    "mlp": ("L{n}.mlp_out", "L{n}.mlp_out"),
    "att": ("blocks.{n}.attn.hook_z", "blocks.{n}.attn.hook_z"),
    "transcoders": ("blocks.{n}.ln2.hook_normalized", "L{n}.mlp_out"),
}
_NO_SITE = "the names of its folders do not say which site it reads"


def read_npz_folder(folder: Path | str) -> Coder:
    """The coder of version 1 in a folder with params.npz. FormatError for other arrays."""
    folder = Path(folder)
    tensors = read_npz(folder / "params.npz")
    tensors.exact(("W_enc", "W_dec", "b_enc", "b_dec", "threshold"))
    model, site_in, site_out = _named(folder)
    notes = [] if site_in else [_NO_SITE]
    coder = _coder(tensors, ("W_enc", "W_dec"), site_in, site_out, model, {"format": "gemma_scope_1", "notes": notes})
    return folding.scaled(coder, 1 / math.sqrt(coder.config.d_in)) if site_in == "L0.resid_pre" else coder


def read_safetensors_folder(folder: Path | str) -> Coder:
    """The coder of version 2 in a folder with config.json and params.safetensors.

    FormatError for other tensors, and for coders of several layers, whose decoder has a third axis."""
    folder = Path(folder)
    said, tensors = read_settings(folder / "config.json"), read_safetensors(folder / "params.safetensors")
    if (architecture := said.required("architecture")) != "jump_relu":
        raise FormatError(f"{said.where}: architecture is {architecture!r}; read is jump_relu")
    skip = said.flag("affine_connection", absent=False)
    tensors.exact(("w_enc", "w_dec", "b_enc", "b_dec", "threshold", *(["affine_skip_connection"] if skip else [])))
    site_in = said.text("hf_hook_point_in")
    site_out = said.text("hf_hook_point_out") or site_in
    about = {"format": "gemma_scope_2", "config": said.entries}
    return _coder(tensors, ("w_enc", "w_dec"), site_in, site_out, said.text("model_name"), about)


def _coder(
    tensors: Tensors, matrices: tuple[str, str], site_in: str, site_out: str, model: str, about: Mapping[str, object]
) -> Coder:
    encoder, decoder = matrices
    d_sae, d_out = tensors.length("b_enc"), tensors.length("b_dec")
    shape = tensors.tensors[encoder].shape
    if len(shape) != 2:
        raise FormatError(f"{tensors.where}: wanted {encoder} [d_in, {d_sae}], got {list(shape)}")
    d_in, skip = shape[0], "affine_skip_connection" in tensors
    config = configure(
        tensors.where,
        architecture="jumprelu",
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_out,
        centre_input=False,
        skip=skip,
        site_in=site_in,
        site_out=site_out,
        model=model,
        about=about,
    )
    taken = {
        "encoder": tensors.take(encoder, d_in, d_sae).T,
        "W_dec": tensors.take(decoder, d_sae, d_out),
        **{name: tensors.take(name, d_sae) for name in ("b_enc", "threshold")},
        "b_dec": tensors.take("b_dec", d_out),
    }
    if skip:
        taken["W_skip"] = tensors.take("affine_skip_connection", d_in, d_out).T
    return assemble(config, taken)


def _named(folder: Path) -> tuple[str, str, str]:
    """(model, site_in, site_out) by the names of the folders above; empty where they do not say."""
    path = folder.resolve().as_posix()
    repository = re.search(r"gemma-scope-(\w+)-(pt|it)-(res|mlp|att|transcoders)\b", path)
    layer = re.search(r"/layer_(\d+)/", path + "/")
    if repository is None:
        return "", "", ""
    size, kind, what = repository.groups()
    model = f"google/gemma-2-{size}" + ("-it" if kind == "it" else "")
    if what == "res" and "/embedding/" in path + "/":
        return model, "L0.resid_pre", "L0.resid_pre"
    if layer is None:
        return model, "", ""
    site_in, site_out = (name.format(n=layer[1]) for name in _SITES[what])
    return model, site_in, site_out
