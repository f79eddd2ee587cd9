"""The commented configuration and its reference, both written from the settings themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from loop.sections import Section
from loop.settings import SECTIONS, as_toml

SHOWN = {  # what a project lead decides; the rest stands there as a comment
    ("project", "name"),
    ("project", "findings"),
    ("images", "source"),
    ("batch", "size"),
    ("stop", "target"),
}


def commented_toml(findings: Sequence[str]) -> str:
    """A configuration for some findings: what must be set is set, everything else is there as a comment."""
    lines = ["# Configuration of annotation-loop. A line that begins with # and a key shows its default."]
    for section, model in SECTIONS.items():
        lines += ["", f"# {_about(model)}", f"[{section}]"]
        for key, field in model.model_fields.items():
            value = list(findings) if key == "findings" else _shown_value(field)
            mark = "" if (section, key) in SHOWN else "# "
            lines += [f"# {_sentence(field)}", f"{mark}{key} = {as_toml(value)}"]
    return "\n".join(lines) + "\n"


def reference_table() -> str:
    """Every setting with its default and meaning, as Markdown."""
    return "\n\n".join(
        "\n".join(
            [
                f"**`[{section}]`** {_about(model)}",
                "",
                "| key | default | meaning |",
                "|---|---|---|",
                *_reference_rows(model),
            ]
        )
        for section, model in SECTIONS.items()
    )


def _reference_rows(model: type[Section]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        default = (
            "required" if field.is_required() else f"`{as_toml(field.default)}`" if _tells(field) else ""
        )
        yield f"| `{key}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |"


def _tells(field: FieldInfo) -> bool:
    return field.default not in (None, "")


def _shown_value(field: FieldInfo) -> Any:
    return field.examples[0] if field.examples else field.default


def _about(model: type[Section]) -> str:
    return " ".join((model.__doc__ or "").split())


def _sentence(field: FieldInfo) -> str:
    text = field.description or ""
    return f"{text[:1].upper()}{text[1:]}."
