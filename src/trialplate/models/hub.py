"""The hub cache, and the hub itself where the user allowed it. Everything below this module works on local folders."""

import os
from pathlib import Path

from trialplate.models.errors import ModelNotFound

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


def go_offline() -> None:
    """Tell the libraries, and children of this process, not to reach for a network. They read these variables when they are imported.

    A variable that the user has set stays as it is."""
    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)


def cached_snapshot(hub_id: str, revision: str | None, marker: str = "config.json") -> Path | None:
    """The cached folder of a revision (default: main) that has the file `marker`, without any network; None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, marker, revision=revision or "main")
    return Path(found).parent if isinstance(found, str) else None


def cached_revisions(hub_id: str) -> list[str]:
    """Names of the revisions of a model that have been fetched, for the text of an error."""
    refs = cache_folder() / f"models--{hub_id.replace('/', '--')}" / "refs"
    return sorted(str(path.relative_to(refs)) for path in refs.rglob("*") if path.is_file()) if refs.is_dir() else []


def cache_folder() -> Path:
    """The hub cache of this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def download_command(hub_id: str, revision: str | None) -> str:
    """The command that fetches a model into the cache."""
    return f"hf download {hub_id}" + (f" --revision {revision}" if revision else "")


def download(hub_id: str, revision: str | None, *, weights: bool = True) -> Path:
    """Fetch a model into the cache and return its folder; safetensors only where the repository has them.

    `weights=False` fetches configuration and tokenizer. Raises ModelNotFound with the hub's own reason."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        listed = HfApi().model_info(hub_id, revision=revision).siblings or []
        names = [sibling.rfilename for sibling in listed]
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted_files(names, weights=weights)))
    except OfflineModeIsEnabled as error:
        text = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set in this process; unset it for a run with --online"
        raise ModelNotFound(f"cannot fetch {hub_id}: {text}") from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, *transport_errors(), OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise ModelNotFound(
            f"cannot fetch {hub_id}{at} from the hub: {type(error).__name__}: {str(error).strip()}"
        ) from error


def wanted_files(names: list[str], *, weights: bool) -> list[str]:
    """Of the files of a repository those that are read here: top level only, safetensors before torch files, nothing executable."""
    top = [name for name in names if "/" not in name]
    small = [name for name in top if name in _TOKENIZER_FILES or name in ("config.json", "adapter_config.json")]
    if not weights:
        return small
    tensors = [name for name in top if name.endswith((".safetensors", ".safetensors.index.json"))]
    torch_files = [
        name for name in top if name.startswith("pytorch_model") and name.endswith((".bin", ".bin.index.json"))
    ]
    return small + (tensors or torch_files)


def transport_errors() -> tuple[type[Exception], ...]:
    """The base class of connection errors of whichever HTTP client this release of the hub library uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(
        base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError" and issubclass(base, Exception)
    )
