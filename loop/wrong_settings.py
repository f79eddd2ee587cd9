"""What is wrong with a configuration, in words: unknown keys, secrets, impossible values."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from loop.errors import BadInput
from loop.sections import SECTIONS

EXPECTED = {  # what a value of a wrong type should have been, in the words of TOML
    "string_type": "be text in quotes",
    "tuple_type": "be a list in brackets",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "bool_type": "be true or false",
    "string_pattern_mismatch": "be as described",
}


def refuse_strange_keys(tables: Mapping[str, Any], name: str) -> None:
    """Refuse sections and keys that nobody reads, and keys and passwords without repeating them.

    Raises:
        BadInput: There is one; the message names the nearest that exists.
    """
    for section, table in tables.items():
        _refuse_secret(name, section, table)
        if section not in SECTIONS:
            raise BadInput(f"{name}: there is no section [{section}]. {_nearest_section(section)}")
        if not isinstance(table, Mapping):
            raise BadInput(
                f"{name}: {section} must be a section: write [{section}] on a line of its own, below it its keys."
            )
        fields = SECTIONS[section].model_fields
        for key, value in table.items():
            _refuse_secret(name, key, value)
            if key not in fields:
                raise BadInput(f"{name}: [{section}] has no {key!r}. {_nearest_key(key, fields)}")


def _refuse_secret(name: str, key: str, value: Any) -> None:
    """Refuse keys and passwords without repeating them."""
    if re.search(r"(^|[_-])(key|token|password)$|^apikey$", key.lower()):
        raise BadInput(
            f"{name}: {key}: a key does not belong into a file that is copied and shared. Remove the line, and "
            "export LABEL_STUDIO_API_KEY=... where you run the command."
        )
    if isinstance(value, str) and re.match(r"[^:/]+://[^/@]*:[^/@]*@", value):
        raise BadInput(
            f"{name}: {key}: the address holds a password, which does not belong into a file that is copied and "
            "shared. Take it out; for PostgreSQL export PGPASSWORD=... or use ~/.pgpass."
        )

    if isinstance(value, str) and key == "source" and re.match(r"https?://[^?]*\?", value):
        raise BadInput(
            f"{name}: {key}: the address has a query, which may be a signature and does not belong into a file that is copied "
            "and shared. Fetch the manifest yourself and name the file."
        )


def _nearest_section(section: str) -> str:
    if held := _sections_with(section):
        return (
            f"There is the key {section!r} in [{held}] ({SECTIONS[held].model_fields[section].description})."
        )
    if near := difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.5):
        about = (SECTIONS[near[0]].__doc__ or "").split(".")[0]
        return f"Did you mean [{near[0]}] ({about[:1].lower()}{about[1:]})?"
    return f"There are {', '.join(f'[{known}]' for known in SECTIONS)}."


def _nearest_key(key: str, fields: Mapping[str, FieldInfo]) -> str:
    if near := difflib.get_close_matches(key, fields, n=1, cutoff=0.6):
        return f"Did you mean {near[0]!r} ({fields[near[0]].description})?"
    if held := _sections_with(key):
        return f"{key!r} belongs into [{held}] ({SECTIONS[held].model_fields[key].description})."
    return f"It has {', '.join(fields)}."


def _sections_with(key: str) -> str | None:
    return next((section for section, model in SECTIONS.items() if key in model.model_fields), None)


def nearest(name: str, known: tuple[str, ...]) -> str:
    """A question that names the most similar of the known names; empty if none is."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def explain(error: ValidationError, origins: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """One line a key; of the ways in which a value can be wrong the one that looked deepest into it."""
    problems: dict[tuple[str, ...], Any] = {}
    for problem in error.errors(include_url=False):
        where = tuple(str(part) for part in problem["loc"][:2])
        if where not in problems or len(problem["loc"]) > len(problems[where]["loc"]):
            problems[where] = problem
    for where, problem in problems.items():
        if len(where) < 2:
            if problem["type"] == "missing":
                yield f"the section [{where[0]}] is missing. Every project needs its findings: [project] findings = [...]."
            else:
                yield str(problem["msg"]).removeprefix("Value error, ")
            continue
        section, key = where[0], where[1]
        origin = origins.get((section, key), "")
        meaning = f"Meaning: {SECTIONS[section].model_fields[key].description}."
        if problem["type"] == "missing":
            yield f"[{section}] {key} is missing. {meaning}"
            continue
        if (
            isinstance(problem["loc"][-1], str) and len(problem["loc"]) > 3
        ):  # a line of a table, as in [stop.target]
            section, key = f"{section}.{key}", problem["loc"][-1]
        value = as_toml(problem["input"])
        yield f"[{section}] {key} = {value}{origin} is not possible: it must {_expected(problem)} {meaning}"


def _expected(problem: Mapping[str, Any]) -> str:
    fact = EXPECTED.get(problem["type"])
    if fact is None:
        fact = re.sub(r"^(Value error, |\w+ should )", "", str(problem["msg"]))
        fact = re.sub(r" after validation, not \d+", "", fact)
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return f"{fact}.{nearest(problem['input'], tuple(known))}"
    return f"{fact}."


def as_toml(value: Any) -> str:
    """A value as it stands in a configuration."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {as_toml(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
