"""What is asked for: a model name with revision, adapter, dtype and device. Standard library only."""

from dataclasses import dataclass, replace
from pathlib import PurePath

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One subject as the user names it: `name` is an embedded name, a folder, a catalogue name or a hub id; `adapter` a folder or a hub id.

    `dtype` is the dtype of computation, `device` one of cpu, cuda, cuda:N, mps. Raises ValueError for an empty name or an unknown dtype."""

    name: str
    revision: str | None = None
    adapter: str | None = None
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for field in ("name", "revision", "adapter", "device"):
            if (value := getattr(self, field)) is not None and not value.strip():
                raise ValueError(f"the {field} of a model is empty: wanted a text such as 'pythia-70m', got {value!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r} for {self.name}: wanted one of {', '.join(DTYPES)}")

    @property
    def label(self) -> str:
        """The name people read: `pythia-70m@step1000+my-adapter`."""
        revision = f"@{self.revision}" if self.revision else ""
        adapter = f"+{PurePath(self.adapter).name}" if self.adapter else ""
        return f"{self.name}{revision}{adapter}"

    @property
    def key(self) -> str:
        """Label, device and dtype: one entry of the model pool."""
        return f"{self.label}|{self.device}|{self.dtype}"

    def with_device(self, device: str) -> "ModelSpec":
        """The same model on another device."""
        return replace(self, device=device)
