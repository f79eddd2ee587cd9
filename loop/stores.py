"""Several encoders side by side: one feature store each, in a folder named by the encoder's fingerprint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.encoders import Encoder
from loop.errors import BadInput
from loop.features import ABOUT, FILES, FeatureStore, read_about
from loop.step_report import as_json

ENOUGH = 0.9
"""An encoder with embeddings of fewer of a project's images neither takes over nor is compared with those that have them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The embeddings of one encoder.

    Attributes:
        encoder: How it was asked for; empty where an older release wrote the store.
        fingerprint: Hash of weights and preprocessing: the name of its folder.
        dim: Length of a vector.
        rows: Embeddings in force.
        missing: Of the images asked about, how many it lacks; None where none were.
        size_bytes: On the disk.
        written: When the last batch was committed; None if none was.
        in_force: Whether the project works with it.
        problems: What is wrong with it; a listing looks at the last batch only, a check at all.
    """

    encoder: str
    fingerprint: str
    dim: int
    rows: int
    missing: int | None
    size_bytes: int
    written: datetime | None
    in_force: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stores:
    """The embeddings of every encoder in a folder."""

    folder: str
    stores: tuple[Stored, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with any of them."""
        return not any(stored.problems for stored in self.stores)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return {**as_json(self), "ok": self.ok}


def open_store(folder: Path, encoder: Encoder) -> FeatureStore:
    """Open an encoder's store beside those of others, made if it is not there.

    Raises:
        BadInput: Its description is damaged.
    """
    return FeatureStore.open(folder / encoder.fingerprint, encoder.fingerprint, encoder.dim, encoder.spec)


def find_folders(folder: Path) -> list[Path]:
    """The stores in a folder, by the fingerprints that name them."""
    return sorted(about.parent for about in folder.glob(f"*/{ABOUT}"))


def list_stores(
    folder: Path,
    *,
    check: bool,
    items: Collection[str] | None = None,
    in_force: str = "",
    specs: Mapping[str, str] | None = None,
) -> Stores:
    """List the embeddings of every encoder; nothing is changed.

    Args:
        folder: Holds a folder for each encoder.
        check: Check every batch against its checksums, which reads everything.
        items: Images to look for.
        in_force: Fingerprint of the encoder that the project works with.
        specs: How encoders were asked for, by fingerprint, where their stores do not say it.

    Raises:
        BadInput: There is no store.
    """
    found = find_folders(folder)
    if not found:
        raise BadInput(
            f"{folder} holds no embeddings. Name the folder that `loop encode` wrote (--store), or run `loop start`."
        )
    stores = (_look(each, check, items, in_force, specs or {}) for each in found)
    return Stores(
        str(folder), tuple(sorted(stores, key=lambda s: (not s.in_force, s.encoder, s.fingerprint)))
    )


def _look(
    folder: Path, check: bool, items: Collection[str] | None, in_force: str, specs: Mapping[str, str]
) -> Stored:
    fingerprint = folder.name
    files = [folder / name for name in FILES]
    size = sum(file.stat().st_size for file in files if file.is_file())
    try:
        about = read_about(folder)
        if lacking := [
            file.name for file in files if not file.is_file()
        ]:  # to open the store would make them
            raise BadInput(f"{folder} lacks {', '.join(lacking)}. Delete it; the images are encoded again.")
        store = FeatureStore(folder, about.dim)
    except BadInput as error:
        return Stored(
            specs.get(fingerprint, ""),
            fingerprint,
            0,
            0,
            None,
            size,
            None,
            fingerprint == in_force,
            (str(error),),
        )
    problems = (
        [] if about.fingerprint == fingerprint else [f"{folder} holds embeddings of {about.fingerprint}"]
    )
    bad = store.verify().bad if check else store.cut_off
    problems += [f"rows {first:,} to {first + n - 1:,} do not agree with their checksum" for first, n in bad]
    return Stored(
        encoder=about.spec or specs.get(fingerprint, ""),
        fingerprint=fingerprint,
        dim=about.dim,
        rows=len(store),
        missing=None if items is None else sum(not store.has(item) for item in items),
        size_bytes=size,
        written=datetime.fromtimestamp(files[-1].stat().st_mtime, UTC) if len(store) else None,
        in_force=fingerprint == in_force,
        problems=tuple(problems),
    )
