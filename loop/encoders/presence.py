"""Whether an encoder's weights are on this machine, told from its spec alone. No torch, no network."""

from __future__ import annotations

from pathlib import Path

from loop.encoders.catalogue import list_encoders
from loop.encoders.hub import SHIPPED, WEIGHTS, cache_folder, is_cached

OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def weights_file(spec: str) -> Path | None:
    """The checkpoint or table that a spec names; None if it names none."""
    family, _, name = spec.removeprefix("int8:").partition(":")
    name = name.partition("#")[0]
    if family in ("features", "chexzero"):
        return Path(name).expanduser()
    file = name.partition("?size=")[0].partition("@")[2]
    if family == "timm" and file:
        return Path(file).expanduser()
    if family in ("open_clip", "torchxrayvision") and file and (Path(file).suffix or "/" in file):
        return Path(file).expanduser()
    return None


def weights_are_here(spec: str) -> bool | None:
    """Whether weights are on this machine; None = that cannot be told without loading them."""
    if (file := weights_file(spec)) is not None:
        return file.is_file()
    spec = spec.removeprefix("int8:")
    plain = spec.partition("#")[0].partition("?size=")[0]
    for known in list_encoders():
        if known.is_here is not None and plain in (known.spec, known.spec.partition("#")[0]):
            return known.is_here()
    family, _, name = plain.partition(":")
    match family:
        case "hf":
            return _hf_is_here(name)
        case "timm":
            return _timm_is_here(name)
        case "open_clip" if name.startswith("local-dir:"):
            return any((Path(name.removeprefix("local-dir:")).expanduser() / w).is_file() for w in OPEN_CLIP)
        case "open_clip" if name.startswith("hf-hub:"):
            return any(is_cached(name.removeprefix("hf-hub:"), weights) for weights in OPEN_CLIP)
    return None


def _hf_is_here(name: str) -> bool:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return all(any((folder / file).is_file() for file in group) for group in (SHIPPED, WEIGHTS))
    repository = name.partition("@")[0]
    return any(is_cached(repository, weights) for weights in WEIGHTS)


def _timm_is_here(name: str) -> bool | None:
    """timm keeps its weights on the hub as timm/ARCH.TAG; which tag is its default, only timm knows."""
    if "." in name:
        return is_cached(f"timm/{name}", "model.safetensors") or None  # some lie elsewhere
    folders = cache_folder("timm/x").parent.glob(f"models--timm--{name}.*")
    return any(next(folder.glob("snapshots/*/model.safetensors"), None) for folder in folders) or None
