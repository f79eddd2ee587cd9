"""Where weights lie: a local folder, or a repository of the Hugging Face hub in its cache, fetched if it must be."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loop.errors import BadInput, first_line
from loop.paths import expand_home

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
SHIPPED = ("preprocessor_config.json", "processor_config.json")
PATTERN = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub, as it was asked for.

    Attributes:
        spec: The encoder.
        name: ``ORG/NAME``.
        revision: Branch, tag or commit; None = main.
    """

    spec: str
    name: str
    revision: str | None


def find_folder(spec: str, name: str, also: Sequence[str] = ()) -> Path:
    """The folder with a model's files: configuration, image processor and weights.

    A repository is looked up once; all further files are of the same commit.

    Args:
        spec: How the encoder was asked for.
        name: A folder on this machine, ``ORG/NAME`` or ``ORG/NAME@REVISION``.
        also: Further files to fetch if the repository has them.

    Raises:
        BadInput: A file is not on this machine and cannot be fetched; the message says which goes where.
    """
    folder = expand_home(name)
    if folder.is_dir():
        _require(spec, folder)
        return folder
    found = PATTERN.fullmatch(name)
    if found is None:
        raise BadInput(
            f"[encoder] spec = {spec!r}: there is no folder {folder}, and it is no repository of the hub: "
            "write hf:ORG/NAME, hf:ORG/NAME@REVISION or hf:/path/to/folder."
        )
    asked = Repository(spec, found["name"], found["revision"])
    folder = _fetched(asked, "config.json", asked.revision)
    for group in (SHIPPED, WEIGHTS):
        _first_fetched(asked, group, folder.name)
    for shard in _shards(folder):
        _fetched(asked, shard, folder.name)
    for file in also:
        _fetched_if_there(asked, file, folder.name)
    _require(spec, folder)
    return folder


def is_cached(repository: str, file: str) -> bool:
    """Whether the hub's cache on this machine holds a file; the network is not asked."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, cache_dir=constants.HF_HUB_CACHE)
    return isinstance(found, str)


def cache_folder(repository: str) -> Path:
    """Where the hub's cache keeps a repository."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _require(spec: str, folder: Path) -> None:
    """Check that a folder is whole."""
    lacking = [] if (folder / "config.json").is_file() else ["config.json"]
    for group in (SHIPPED, WEIGHTS):
        if not any((folder / file).is_file() for file in group):
            lacking.append(group[0])
    if not lacking:
        lacking = [shard for shard in _shards(folder) if not (folder / shard).is_file()]
    if lacking:
        raise BadInput(
            f"[encoder] spec = {spec!r}: {folder} lacks {', '.join(lacking)}. It must hold config.json, "
            "preprocessor_config.json and model.safetensors as the model's repository does."
        )


def _shards(folder: Path) -> list[str]:
    """The files into which large weights are split."""
    index = folder / WEIGHTS[1]
    if (folder / WEIGHTS[0]).is_file() or not index.is_file():
        return []
    try:
        return sorted(
            {index.with_name(file).name for file in json.loads(index.read_bytes())["weight_map"].values()}
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadInput(f"{index} names no files; copy it anew from the model's repository.") from None


def _first_fetched(asked: Repository, files: Sequence[str], revision: str) -> None:
    """Fetch the first of several files that the repository has; only the last one's absence is told."""
    for file in files[:-1]:
        if _fetched_if_there(asked, file, revision):
            return
    if not _fetched_if_there(asked, files[-1], revision):
        _fetched(asked, files[0], revision)


def _fetched_if_there(asked: Repository, file: str, revision: str) -> bool:
    """Whether a repository has a file, which then is here.

    One that cannot be asked lacks it only where the cache is all there is, or has noted that it does.
    """
    from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        _download(asked.name, file, revision)
    except LocalEntryNotFoundError as error:
        noted = try_to_load_from_cache(asked.name, file, constants.HF_HUB_CACHE, revision)
        if not constants.HF_HUB_OFFLINE and noted is not _CACHED_NO_EXIST:
            raise BadInput(_say_absent(asked, file, error)) from None
        return False
    except EntryNotFoundError:
        return False
    except Exception as error:  # the hub's client raises a dozen kinds of its own
        raise BadInput(_say_absent(asked, file, error)) from None
    return True


def _fetched(asked: Repository, file: str, revision: str | None) -> Path:
    """The folder in which a fetched file lies."""
    try:
        return _download(asked.name, file, revision).parent
    except Exception as error:  # as above
        raise BadInput(_say_absent(asked, file, error)) from None


def _download(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download

    return Path(hf_hub_download(repository, file, revision=revision, cache_dir=constants.HF_HUB_CACHE))


def _say_absent(asked: Repository, file: str, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError

    from loop.encoders.catalogue import is_gated

    page = f"https://huggingface.co/{asked.name}"
    terms = ""
    if isinstance(error, GatedRepoError) or is_gated(asked.name):
        terms = (
            f" It is gated: accept its terms on {page} and log in with `hf auth login` where you fetch it."
        )
    reason = first_line(error).split(". ")[0][:160]
    revision = f" --revision {asked.revision}" if asked.revision else ""
    return (
        f"[encoder] spec = {asked.spec!r}: {file} of {asked.name} is not on this machine and cannot be fetched ({reason}).{terms} "
        f"To work offline, copy config.json, preprocessor_config.json and model.safetensors from {page} into one folder and "
        f'set [encoder] spec = "hf:/path/to/folder"; or run `hf download {asked.name}{revision}` on a machine with a network and copy '
        f"its cache to {cache_folder(asked.name)}; HF_HUB_OFFLINE=1 then says that the cache is whole."
    )
