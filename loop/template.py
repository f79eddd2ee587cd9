"""The commented configuration and its reference, both written from the settings themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticUndefined

from loop.settings import SECTIONS

SHOWN = {
    ("project", "name"),
    ("project", "findings"),
    ("images", "source"),
    ("stop", "target"),
    ("batch", "size"),
}


def commented_toml(findings: Sequence[str]) -> str:
    """A configuration for some findings: what must be set is set, everything else is there as a comment."""
    lines = ["# Configuration of annotation-loop. Lines that begin with # show the defaults."]
    for section, model in SECTIONS.items():
        about = " ".join((model.__doc__ or "").split())
        lines += ["", f"[{section}]  # {about}"]
        for key, field in model.model_fields.items():
            value = list(findings) if key == "findings" else field.default
            mark = "" if (section, key) in SHOWN else "# "
            lines.append(f"# {_sentence(field.description)}")
            lines.append(f"{mark}{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def reference_table() -> str:
    """Every setting with its default and meaning, as Markdown."""
    lines = []
    for section, model in SECTIONS.items():
        lines += [
            f"**`[{section}]`** {' '.join((model.__doc__ or '').split())}",
            "",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        for key, field in model.model_fields.items():
            default = (
                "required"
                if field.default is PydanticUndefined
                else f"`{_toml(field.default)}`"
                if field.default not in (None, "")
                else ""
            )
            lines.append(f"| `{key}` | {default} | {(field.description or '').replace('|', '/')} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _sentence(text: str | None) -> str:
    return f"{(text or '')[:1].upper()}{(text or '')[1:]}."


def _toml(value: Any) -> str:
    if value is None:
        return "1"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
