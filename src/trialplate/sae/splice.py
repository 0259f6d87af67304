"""A model that runs with a coder in place: what stands at a site is replaced by what the coder makes of it, token by token.

Symbols: x [n, d_in] what stands at the site that is read, y [n, d_out] at the site that is written (the same for an autoencoder), f = encode(x),
f* = edit(f), D the decoder. What is written, by mode:

    replace      D f*                the coder's output
    error_kept   y + (D f* - D f)    y itself unless latents are edited: what the coder misses is added back
    mean         a given vector
    zero         0

Only kept positions are written: tokens whose ids are in `skip` (beginnings, separators) stay as the model made them. Hooks are gone when the block
ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from trialplate.activations.sites import Point, module_at, resolve
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.edits import Edit
from trialplate.sae.errors import CoderError

Mode = Literal["replace", "error_kept", "mean", "zero"]
MODES: tuple[str, ...] = get_args(Mode)


class Splice:
    """A coder bound to the sites of a model; it can run many times. `running` is the block in which it holds.

    point  the site that is read;  out: the one that is written (None: the same, or what the config of a transcoder names)
    coder  None for the modes mean and zero;  edit: see `edits`;  mean: [d_out] for the mode mean
    skip   token ids whose positions are left alone

    CoderError for a mode without what it needs, a coder of another site, a site that cannot be written."""

    def __init__(
        self,
        model: CausalLM,
        point: Point,
        coder: Coder | None = None,
        mode: Mode = "replace",
        *,
        out: Point | None = None,
        edit: Edit | None = None,
        mean: Float[Tensor, " d_out"] | None = None,
        skip: Iterable[int] = (),
    ) -> None:
        _require_parts(mode, coder, edit, mean)
        self.model, self.coder, self.mode, self.edit, self.mean = model, coder, mode, edit, mean
        self.point, self.out = point, out or _site_out(model, point, coder)
        self.skip = tuple(sorted(set(skip)))
        if self.out.record:
            raise CoderError(
                f"{model.label}: {self.out.name} is a record of its layer, which can be read and not written"
            )
        _ = model.splits_head  # found out by running the model, once: that must be the plain one
        if coder is not None:
            _require_site(model, coder, point)
        self._kept: Tensor | None = None
        self._read: Tensor | None = None

    @property
    def label(self) -> str:
        """For messages."""
        return f"the mode {self.mode} at {self.out.name}"

    @contextmanager
    def running(self, counted: Bool[Tensor, "b s"] | None = None) -> Iterator[None]:
        """The coder is in place within the block. `counted`: cells that may be written (None: all); with it, every pass has its shape."""
        cells = None if counted is None else counted.flatten().to(self.model.device)
        with ExitStack() as stack:
            if self.skip:
                for module in _told_ids(self.model):
                    hook = module.register_forward_pre_hook(self._look(cells), with_kwargs=True)
                    stack.callback(hook.remove)
            self._kept = cells
            if self.out != self.point:
                stack.callback(_hooked(self.model, self.point, self._take).remove)
            stack.callback(_hooked(self.model, self.out, self._write).remove)
            stack.callback(self._forget)
            yield

    def _forget(self) -> None:
        self._kept = self._read = None

    def _look(self, cells: Tensor | None) -> Any:
        def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if not isinstance(ids, Tensor):
                raise CoderError(
                    f"{self.model.label} runs on embeddings, so the tokens to skip are not known; pass ids, or skip none"
                )
            kept = ~torch.isin(ids.flatten(), torch.tensor(self.skip, device=ids.device))
            self._kept = kept if cells is None else kept & cells

        return look

    def _take(self, x: Tensor) -> Tensor:
        self._read = x
        return x

    def _write(self, y: Tensor) -> Tensor:
        """The values of the written site, [b, s, d] or [b s, d], with kept positions replaced."""
        x = y if self.out == self.point else self._read
        self._read = None
        if x is None:
            raise CoderError(
                f"{self.model.label}: {self.out.name} comes before {self.point.name} in a pass, so nothing has been read that could be written there"
            )
        rows, flat = x.flatten(0, -2), y.flatten(0, -2)
        if self._kept is None:
            return self._made(rows, flat).view_as(y)
        if len(self._kept) != len(flat):
            raise CoderError(
                f"{self.model.label}: {self.out.name} has {len(flat)} rows for {len(self._kept)} tokens; it does not work token by token"
            )
        kept = self._kept.nonzero().squeeze(1)
        return flat.index_copy(0, kept, self._made(rows[kept], flat[kept])).view_as(y)

    def _made(self, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_out"]:
        if self.mode == "zero":
            return torch.zeros_like(y)
        if self.mean is not None:
            self._require_width(y, len(self.mean))
            return self.mean.to(y).expand_as(y)
        coder = self.coder
        assert coder is not None  # the modes that are left have one
        self._require_width(y, coder.config.d_out)
        x = x.to(coder.W_dec)
        code = coder.encode(x)
        edited = code if self.edit is None else self.edit(code)
        if self.mode == "replace":
            return coder.decode(edited, x).to(y)
        return y + (coder.decode(edited, x) - coder.decode(code, x)).to(y)

    def _require_width(self, y: Tensor, width: int) -> None:
        if y.shape[-1] != width:
            raise CoderError(
                f"{self.model.label}: {self.out.name} is {y.shape[-1]} wide, what is to be written there {width}"
            )


@contextmanager
def spliced(
    model: CausalLM,
    point: Point,
    coder: Coder | None = None,
    mode: Mode = "replace",
    *,
    out: Point | None = None,
    edit: Edit | None = None,
    mean: Float[Tensor, " d_out"] | None = None,
    skip: Iterable[int] = (),
) -> Iterator[Splice]:
    """Within the block, the model runs with the coder in place. See `Splice` for what is taken and refused, this module for the modes."""
    found = Splice(model, point, coder, mode, out=out, edit=edit, mean=mean, skip=skip)
    with found.running():
        yield found


def _require_parts(mode: str, coder: Coder | None, edit: Edit | None, mean: Tensor | None) -> None:
    if mode not in MODES:
        raise CoderError(f"wanted a mode of {', '.join(MODES)}, got {mode!r}")
    coded = mode in ("replace", "error_kept")
    if coded and coder is None:
        raise CoderError(f"the mode {mode} wants a coder; zero and mean work without one")
    if not coded and edit is not None:
        raise CoderError(
            f"the mode {mode} decodes no latents, so an edit of them would be lost; use replace or error_kept"
        )
    if (mode == "mean") != (mean is not None):
        raise CoderError(
            f"a mean vector is wanted for the mode mean, and only there; got mode {mode!r} and mean={mean is not None}"
        )


def _site_out(model: CausalLM, point: Point, coder: Coder | None) -> Point:
    if coder is None or not coder.config.is_transcoder:
        return point
    if not coder.config.site_out:
        raise CoderError(
            "this transcoder does not say where it writes (site_out is empty); name the site: out=resolve(model, ...)"
        )
    return resolve(model, coder.config.site_out)


def _require_site(model: CausalLM, coder: Coder, point: Point) -> None:
    asked = coder.config.site_in
    if asked and resolve(model, asked).name != point.name:
        raise CoderError(
            f"this coder reads {asked} and would be put at {point.name} of {model.label}; "
            "to do so on purpose, give it a config without site_in and site_out"
        )


def _told_ids(model: CausalLM) -> list[nn.Module]:
    """The modules that are called with token ids: the whole model, and its trunk, which may be called alone."""
    trunk = model.module.base_model
    return [model.module] if trunk is model.module or not isinstance(trunk, nn.Module) else [model.module, trunk]


def _hooked(model: CausalLM, point: Point, change: Callable[[Tensor], Tensor]) -> Any:
    """A hook that puts `change(values)` where the values of a point were."""
    module = module_at(model, point)
    if point.side == "output":
        return module.register_forward_hook(
            lambda _, args, output: (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)
        )

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        if "hidden_states" not in kwargs:
            raise CoderError(f"{model.label}: {point.name} has no single input; name the output of a module instead")
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return module.register_forward_pre_hook(before, with_kwargs=True)
