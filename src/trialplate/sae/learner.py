"""One coder while it is trained: its weights, its optimizer, and the counts that decide what it is asked next. It is handed batches; where they
come from, who else gets them and what is written down is not its business.

Everything that a run must have to go on is in `state()`: two learners with the same state that get the same batches stay equal, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trialplate.sae import autograd_step
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError
from trialplate.sae.l0_target import L0Control
from trialplate.sae.losses import Outcome, Terms
from trialplate.sae.optimiser import project_gradients, renormalise
from trialplate.sae.scaling import Scales
from trialplate.sae.schedules import active_k, learning_rate, rise
from trialplate.sae.settings import TrainingSettings

Step = Callable[[Tensor, Tensor, Terms], Outcome]
BETAS, EPSILON = (0.9, 0.999), 1e-8
FIRST_COEFFICIENT = {"relu": 1.0, "jumprelu": 0.1}
"""Where a coefficient begins that a target of L0 moves, when none is given."""


class Learner:
    """A coder in scaled space that learns from scaled batches. Settings are resolved ones.

    t        steps it has made
    silent   tokens since each latent last fired [m]
    control  what moves its sparsity coefficient, where there is a target of L0"""

    def __init__(
        self,
        name: str,
        config: CoderConfig,
        settings: TrainingSettings,
        scales: Scales,
        *,
        centre: Float[Tensor, " d_out"] | None,
        device: torch.device,
    ) -> None:
        self.name, self.settings, self.scales = name, settings, scales
        draw = torch.Generator().manual_seed(settings.init_seed)
        unit = math.sqrt(config.d_in) if settings.scale == "rms" else 1.0
        self.bandwidth = settings.bandwidth * unit
        mean = None if centre is None else (centre * scales.target).float()
        self.coder = initialise(Coder(config), draw, mean=mean, threshold=settings.threshold * unit).to(device)
        self.optimizer = torch.optim.Adam(
            self.coder.parameters(), lr=settings.lr or 0.0, betas=BETAS, eps=EPSILON, fused=True
        )
        self.t = 0
        self.silent = torch.zeros(config.d_sae, dtype=torch.long, device=device)
        self.control = self._control()
        self._step = self._backend()

    def terms(self) -> Terms:
        """What the next step is asked."""
        s, dead = self.settings, self.dead
        coefficient = self.coefficient * rise(s.sparsity_warmup, s.steps, self.t)
        kind = self.coder.config.architecture
        return Terms(
            k=active_k(s, self.coder.config.k, self.t),
            l1=coefficient if kind == "relu" else 0.0,
            l0=coefficient if kind == "jumprelu" else 0.0,
            bandwidth=self.bandwidth,
            aux=s.aux or 0.0,
            aux_k=s.aux_k or 1,
            dead=dead if s.aux and bool(dead.any()) else None,
            prefix_weight=s.prefix_weight,
            multi=s.multi,
            router_balance=s.router_balance * self.coder.config.d_out,
        )

    @property
    def coefficient(self) -> float:
        """Of L1 or L0, without warm-up; 0 for architectures that have neither."""
        if self.control is not None:
            return self.control.coefficient
        return self.settings.l1 or self.settings.l0

    @property
    def dead(self) -> Bool[Tensor, " d_sae"]:
        """Latents that have not fired for `dead_after_tokens` tokens."""
        return self.silent >= (self.settings.dead_after_tokens or math.inf)

    @property
    def is_done(self) -> bool:
        """Whether it has made all its steps."""
        return self.t >= self.settings.steps

    def step(self, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"]) -> tuple[Terms, Outcome]:
        """Learn from one batch. TrainingError for a loss that is not finite; the weights are then still those before this step."""
        terms = self.terms()
        outcome = self._step(x, y, terms)
        self._require_finite(outcome, x, y)
        self._move()
        fired = outcome.latents.firings() > 0
        self.silent = torch.where(fired, 0, self.silent + len(x))
        if self.control is not None:
            l0 = float(outcome.latents.active().double().mean())
            self.control.update(l0, learning_rate(self.settings, self.t))
        self.t += 1
        return terms, outcome

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, plain data) from which `load` goes on. Tensors of weights are in scaled space and named so."""
        tensors = {f"scaled.{name}": value.detach() for name, value in self.coder.state_dict().items()}
        for name, parameter in self.coder.named_parameters():
            tensors |= {f"adam.{part}.{name}": value for part, value in self.optimizer.state.get(parameter, {}).items()}
        tensors["silent"] = self.silent
        control = None if self.control is None else [self.control.slow, self.control.running]
        return tensors, {"t": self.t, "control": control}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go on from a state. TrainingError where it holds other tensors than this coder has."""
        expected = {name.removeprefix("scaled.") for name in tensors if name.startswith("scaled.")}
        if expected != set(self.coder.state_dict()) or tensors["silent"].shape != self.silent.shape:
            raise TrainingError(
                f"{self.name}: the state holds the weights {sorted(expected)}, which are not this coder's"
            )
        self.coder.load_state_dict({name: tensors[f"scaled.{name}"] for name in expected})
        for name, parameter in self.coder.named_parameters():
            kept = {part: tensors[f"adam.{part}.{name}"] for part in _adam_parts(tensors, name)}
            if kept:
                device = parameter.device
                self.optimizer.state[parameter] = {part: value.to(device).clone() for part, value in kept.items()}
        self.silent = tensors["silent"].to(self.silent.device).clone()
        self.t = int(plain["t"])
        if self.control is not None:
            self.control.slow, self.control.running = plain["control"]

    @torch.no_grad()
    def _move(self) -> None:
        """One step of Adam; unit rows stay unit, thresholds do not go below 0."""
        coder, unit = self.coder, self.settings.decoder_norm == "unit"
        if unit:
            project_gradients(coder)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.settings, self.t)
        self.optimizer.step()
        if unit:
            renormalise(coder)
        if coder.config.architecture == "jumprelu":
            coder.threshold.clamp_(min=0)

    def _require_finite(self, outcome: Outcome, x: Tensor, y: Tensor) -> None:
        if math.isfinite(float(outcome.loss)):
            return
        bad = [name for name, part in outcome.parts.items() if not math.isfinite(float(part))]
        rows = not bool(torch.isfinite(x).all() and torch.isfinite(y).all())
        why = (
            "rows of this batch are themselves not finite: look at where they come from"
            if rows
            else "a smaller lr, a longer lr_warmup or scale='rms' may help"
        )
        raise TrainingError(
            f"{self.name}: at step {self.t} the loss is {float(outcome.loss)}, its part {', '.join(bad) or 'none alone'} not finite; {why}"
        )

    def _control(self) -> L0Control | None:
        s, kind = self.settings, self.coder.config.architecture
        if s.l0_target is None:
            return None
        return L0Control(s.l0_target, s.l1 or s.l0 or FIRST_COEFFICIENT[kind])

    def _backend(self) -> Step:
        if self.settings.backend == "autograd":
            return lambda x, y, terms: autograd_step.gradients(self.coder, x, y, terms)
        from trialplate.sae.sparse_step import SparseStep  # its kernels are built when one is wanted, not before

        kernels: Literal["torch", "numba"] = "numba" if self.settings.backend == "numba" else "torch"
        return SparseStep(self.coder, self.settings.batch_size, kernels).gradients


def _adam_parts(tensors: dict[str, Tensor], name: str) -> list[str]:
    return [key.split(".", 2)[1] for key in tensors if key.startswith("adam.") and key.split(".", 2)[2] == name]
