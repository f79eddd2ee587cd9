"""A prior of learning curves as a small TOML file that says where it comes from."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from forecasting.prior import BOUNDS, Prior
from loop.errors import BadInput

MEANINGS = {  # a comment beside each line; a field without one is written without
    "mean": "centre of (z, ln k, ln c): plateau as a probit, effective size half-way, speed",
    "between": "standard deviations of the same between projects",
    "within": "scales between findings of one project",
    "correlation": "between z and ln k, inside a project",
    "dof": "of Student's t between findings: low = a finding may be unlike its siblings",
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a prior was fitted from.

    Attributes:
        projects: Finished projects.
        findings: Learning curves in them.
        labels: Labelled images behind these.
        version: Version of annotation-loop that fitted it.
        date: When.
    """

    projects: int
    findings: int
    labels: int
    version: str
    date: date


@dataclass(frozen=True, slots=True)
class FittedPrior:
    """A prior and where it comes from."""

    prior: Prior
    fitted_from: Provenance


def write_prior(path: Path, fitted: FittedPrior) -> None:
    """Write a prior; `read_prior` gives it back, its numbers to four digits behind the point."""
    lines = [
        "# Prior of learning curves, written by `loop prior fit`. Use it with `[forecast] prior` in a configuration,",
        "# or with `loop forecast --prior`; `loop prior show` says it in words.",
        "",
        "[prior]",
    ]
    for field in fields(Prior):
        about = f"  # {MEANINGS[field.name]}" if field.name in MEANINGS else ""
        lines.append(f"{field.name} = {_number_text(getattr(fitted.prior, field.name))}{about}")
    came = fitted.fitted_from
    lines += [
        "",
        "[fitted_from]",
        *(f"{name} = {getattr(came, name)}" for name in ("projects", "findings", "labels")),
        f'version = "{came.version}"',
        f"date = {came.date.isoformat()}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_prior(path: Path) -> FittedPrior:
    """Read a prior.

    Raises:
        BadInput: No such file, no TOML, a key unknown or missing, or a value that no prior can have.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(
            f"There is no prior {path}. Fit one with `loop prior fit STATE... --out {path}`."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a prior: {error}. `loop prior fit` writes one.") from None
    _require_keys(str(path), "it", tables, ("prior", "fitted_from"))
    for section, record in (("prior", Prior), ("fitted_from", Provenance)):
        if not isinstance(tables[section], dict):
            raise BadInput(f"{path}: {section} must be a section: write [{section}] on a line of its own.")
        _require_keys(f"{path}", f"[{section}]", tables[section], [f.name for f in fields(record)])
    values = {
        field.name: _checked(path, field.name, tables["prior"][field.name], field.default)
        for field in fields(Prior)
    }
    return FittedPrior(Prior(**values), _provenance(path, tables["fitted_from"]))


def _require_keys(name: str, where: str, table: Mapping[str, Any], keys: Any) -> None:
    for key in table:
        if key not in keys:
            raise BadInput(f"{name}: {where} has an unknown key {key!r}; a prior has {', '.join(keys)}.")
    for key in keys:
        if key not in table:
            raise BadInput(
                f"{name}: {where} has no {key!r}, and a prior needs it. Fit it again with `loop prior fit`."
            )


def _checked(path: Path, key: str, value: Any, like: Any) -> Any:
    """A value of the kind that `like` is, or the reason why it is none."""
    numbers = list(value) if isinstance(value, list) else [value]
    if any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in numbers):
        need: str | None = (
            "must be a finite number" if isinstance(like, float) else f"must be {len(like)} finite numbers"
        )
    elif isinstance(value, list) != isinstance(like, tuple) or (
        isinstance(like, tuple) and len(numbers) != len(like)
    ):
        need = "must be one number" if isinstance(like, float) else f"must be a list of {len(like)} numbers"
    else:
        need = _broken_law(key, numbers)
    if need is not None:
        raise BadInput(
            f"{path}: [prior] {key} = {value} is not possible: it {need} ({MEANINGS.get(key, key)})."
        )
    return tuple(map(float, numbers)) if isinstance(like, tuple) else float(value)


def _broken_law(key: str, numbers: list[float]) -> str | None:
    if key in ("between", "within") and min(numbers) <= 0:
        return "must be above 0, for nobody is certain of a curve"
    if key == "mean" and not all(low <= x <= high for x, low, high in zip(numbers, *BOUNDS, strict=True)):
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in zip(*BOUNDS, strict=True))
        return f"must lie within {ranges}, beyond which no curve is believed"
    if key == "correlation" and abs(numbers[0]) >= 1:
        return "must lie between -1 and 1"
    if key == "dof" and numbers[0] <= 2:
        return "must be above 2, or the spread has no end"
    return None


def _provenance(path: Path, table: Mapping[str, Any]) -> Provenance:
    counts = {name: table[name] for name in ("projects", "findings", "labels")}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise BadInput(
                f"{path}: [fitted_from] {name} = {count} is not possible: it must be a count, at least 1."
            )
    if type(table["date"]) is not date:
        raise BadInput(
            f"{path}: [fitted_from] date = {table['date']} is not possible: it must be a date such as 2025-01-31."
        )
    return Provenance(**counts, version=str(table["version"]), date=table["date"])


def _number_text(value: Any) -> str:
    return (
        f"[{', '.join(map(_number_text, value))}]"
        if isinstance(value, tuple)
        else repr(round(float(value), 4))
    )
