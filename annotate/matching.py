"""Tasks of a project that existed before us, recognised as our images: by URL, by path, or by a key of their data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from annotate.interface import Interface
from annotate.payloads import Json, path_in_address

MOST_ALIKE = 10  # images that one task could be, of which the message tells
BY_ITEM, EXACT, BY_PATH = 3, 2, 1  # what a match rests on; the higher the surer


@dataclass(frozen=True, slots=True)
class Sought:
    """An image of ours, as a task may name it.

    Attributes:
        path: Its file.
        address: Where it lies on a server, as ``comparable`` writes addresses; empty = nowhere.
        value: What its task's data should hold under the data key; empty = not known.
    """

    path: PurePath
    address: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Matches:
    """Tasks of an existing project, recognised as ours or not.

    Attributes:
        task_ids: Item id to task id, where there was exactly one candidate.
        ambiguous: Item id to the tasks that it could be, where there are several, or where one could be another item too.
        rivals: Of these, item id to the other items that their task could be.
        unmatched: Items without a task.
        strangers: Tasks that are none of our images.
    """

    task_ids: Mapping[str, int]
    ambiguous: Mapping[str, tuple[int, ...]]
    rivals: Mapping[str, tuple[str, ...]]
    unmatched: tuple[str, ...]
    strangers: tuple[int, ...]


def match_existing(
    rows: Iterable[Json],
    interface: Interface,
    images: Mapping[str, Sought],
    comparable: Callable[[str], str],
    data_key: str = "",
) -> Matches:
    """Recognise our images among the tasks of a project that existed before.

    A task belongs to an image by ``data["item"]``; with a data key by its value there, which is the image's value or its file
    name, with or without its end; else by the image's address: the same one, or a path that ends alike. A file name
    that several images or tasks have is not enough: the folders below our images' common one must agree, or all that the task
    names. What stays ambiguous is listed, never guessed.

    Args:
        rows: Tasks as :meth:`Studio.tasks` lists them.
        interface: Names the key of the task's data that holds the image.
        images: Item id to how tasks may name it.
        comparable: Writes an address so that two of one image are equal, signed or not; empty if it is none.
        data_key: A key of the tasks' data that names the image; empty = the image's address does.
    """
    index = _Index(images, comparable, data_key or interface.image_key, by_key=bool(data_key))
    told = [(int(row["id"]), row.get("data") or {}) for row in rows]
    name_counts = Counter(name for _, data in told for name in index.names_in(data))
    items_of: dict[int, list[str]] = {}
    claims: dict[str, dict[int, tuple[int, int]]] = {}
    for task_id, data in told:
        found = index.find(data, name_counts)
        best = max(found.values(), default=None)
        items_of[task_id] = [item for item, strength in found.items() if strength == best]
        for item in items_of[task_id]:
            claims.setdefault(item, {})[task_id] = found[item]
    kept: dict[str, tuple[int, ...]] = {}
    for item, tasks in claims.items():  # of several tasks of an image those that fit best
        best = max(tasks.values())
        kept[item] = tuple(task_id for task_id, strength in tasks.items() if strength == best)
    certain = {item: ids[0] for item, ids in kept.items() if len(ids) == 1 and len(items_of[ids[0]]) == 1}
    ambiguous = {item: ids for item, ids in kept.items() if item not in certain}
    claimed = {task_id for ids in kept.values() for task_id in ids}
    return Matches(
        task_ids=certain,
        ambiguous=ambiguous,
        rivals={
            item: tuple(dict.fromkeys(other for t in ids for other in items_of[t] if other != item))
            for item, ids in ambiguous.items()
        },
        unmatched=tuple(item for item in images if item not in kept),
        strangers=tuple(task_id for task_id, _ in told if task_id not in claimed),
    )


class _Index:
    """Images by everything that may name them; of a million files of one name none is compared with each task."""

    def __init__(
        self, images: Mapping[str, Sought], comparable: Callable[[str], str], key: str, *, by_key: bool
    ) -> None:
        self._images, self._comparable, self._key, self._by_key = images, comparable, key, by_key
        self._by_value: dict[str, list[str]] = {}
        self._by_address: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        self._by_tail: dict[str, list[str]] = {}  # the last parts of a path, as many as a task may name
        self._by_path: dict[str, list[str]] = {}  # all parts below the folder of all images
        n_common = _count_common([image.path.parent.parts for image in images.values()])
        self._folders: dict[str, tuple[str, ...]] = {}  # below the folder of all images
        self._deepest = 1
        for item, image in images.items():
            folders = self._folders[item] = image.path.parent.parts[n_common:]
            self._deepest = max(self._deepest, len(folders) + 1)
            _file(self._by_value, image.value.strip(), item)
            _file(self._by_address, image.address, item)
            for name in {
                image.path.name,
                stored_name(image.path.name),
                *([image.path.stem] if by_key else []),
            }:
                _file(self._by_name, name, item)
                _file(self._by_path, "/".join((*folders, name)), item)
                for n in range(len(folders) + 1):
                    _file(self._by_tail, "/".join((*folders[len(folders) - n :], name)), item)

    def names_in(self, data: Json) -> set[str]:
        """The file names that a task's data could mean."""
        return {path.name for path in _paths(self._value(data))}

    def find(self, data: Json, name_counts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Images that a task's data could name, with how sure that is; of very many alike some."""
        if (item := str(data.get("item"))) in self._images:
            return {item: (BY_ITEM, 0)}
        value = self._value(data)
        table, word = (self._by_value, value) if self._by_key else (self._by_address, self._comparable(value))
        if word and (exact := table.get(word)):
            return dict.fromkeys(exact[:MOST_ALIKE], (EXACT, 0))
        found: dict[str, tuple[int, int]] = {}
        for path in _paths(value):
            for item in self._ending_alike(path, name_counts):
                n = _shared_folders(self._images[item].path, path)
                found[item] = max(found.get(item, (BY_PATH, 0)), (BY_PATH, n))
        return found

    def _ending_alike(self, path: PurePosixPath, name_counts: Mapping[str, int]) -> Iterator[str]:
        """Images of a path: their folders or the task's agree to the last, or there is one of this name only.

        Where folders tell images apart, by patient for example, one has to agree even for the only file of its name.
        """
        parts = [part for part in path.parts if part != "/"]
        yield from self._by_tail.get("/".join(parts), ())[:MOST_ALIKE]
        for n in range(1, min(len(parts), self._deepest) + 1):
            yield from self._by_path.get("/".join(parts[-n:]), ())[:MOST_ALIKE]
        named = self._by_name.get(path.name, ())
        if len(named) != 1 or name_counts[path.name] != 1:
            return
        if (
            len(parts) == 1
            or not self._folders[named[0]]
            or _shared_folders(self._images[named[0]].path, path)
        ):
            yield named[0]

    def _value(self, data: Json) -> str:
        value = data.get(self._key)
        return "" if value is None else str(value).strip()


def _file(table: dict[str, list[str]], key: str, item: str) -> None:
    if key:
        table.setdefault(key, []).append(item)


def stored_name(name: str) -> str:
    """The name that Label Studio gives an uploaded file: Django's, without what needs care in an address."""
    return re.sub(r"(?u)[^-\w.]", "", name.strip().replace(" ", "_"))


def _paths(address: str) -> Iterator[PurePosixPath]:
    """The path in an address; as it stands, too, for a file's name may hold what looks like an escape."""
    yield path_in_address(address)
    plain = address.partition("://")[2] or address
    if "%" in plain:
        yield PurePosixPath(plain.replace("\\", "/"))


def _count_common(folders: Sequence[tuple[str, ...]]) -> int:
    """How many folders, from the root on, are those of every file."""
    pairs = zip(min(folders, default=()), max(folders, default=()), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(min(folders, key=len, default=())))


def _shared_folders(ours: PurePath, theirs: PurePosixPath) -> int:
    """How many folders agree, counted from the file upwards."""
    n = 0
    for a, b in zip(ours.parts[-2::-1], theirs.parts[-2::-1], strict=False):
        if a != b:
            break
        n += 1
    return n
