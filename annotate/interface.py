"""The labelling interface: findings as Label Studio's XML, and back from any XML made of choices.

Every control is brought to one form. A *choice* says that one finding is present, that all the control's
findings are absent, or that the annotator cannot tell; a yes / no question, a list of tick boxes and a
multi-class radio group differ only in how many choices may be taken at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.controls import Control, plain, read_control
from annotate.errors import BadAnswer, BadInterface
from annotate.layout import IMAGE, draw


@dataclass(frozen=True, slots=True)
class Interface:
    """A labelling interface, understood.

    Attributes:
        findings: Every finding it decides.
        image_name: Name of the image control, ``to_name`` in a result.
        image_key: The key of ``task.data`` that holds the image's address.
        controls: The controls that decide findings.
        others: Names of further controls (comments, boxes): kept raw, not read.
        xml: The interface as Label Studio holds it.
    """

    findings: tuple[str, ...]
    image_name: str
    image_key: str
    controls: tuple[Control, ...]
    others: frozenset[str]
    xml: str

    @property
    def fingerprint(self) -> str:
        """Hash of what gives an answer its meaning: controls, choices, findings; not their order or look."""
        meaning = sorted(
            [
                c.name,
                c.several,
                self.image_name,
                self.image_key,
                sorted([*h.path, h.says, h.finding or ""] for h in c.choices),
            ]
            for c in self.controls
        )
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    def read(self, result: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Read an annotation's ``result``.

        Args:
            result: Label Studio's list of answered controls. A control that is missing was not answered.

        Returns:
            Every finding to 1.0 (yes), 0.0 (no) or NaN (cannot tell, not answered).

        Raises:
            BadAnswer: A control or choice that this interface does not have, or a contradiction.
        """
        answers = dict.fromkeys(self.findings, math.nan)
        controls = {c.name: c for c in self.controls}
        given: dict[str, list[Any]] = {}
        if not isinstance(result, Sequence) or isinstance(result, str):
            raise BadAnswer(f"the result is not a list: {str(result)[:80]!r}")
        for part in result:
            if not isinstance(part, Mapping):
                raise BadAnswer(f"a part of the result is not an object: {str(part)[:80]!r}")
            name = part.get("from_name")
            if part.get("type") == "relation" or (isinstance(name, str) and name in self.others):
                continue
            if not isinstance(name, str) or name not in controls:
                raise BadAnswer(f"the interface has no control {name!r}; it has {sorted(controls)}")
            value = part.get("value")
            chosen = value.get("choices") if isinstance(value, Mapping) else None
            chosen = [chosen] if isinstance(chosen, str) else chosen
            if not isinstance(chosen, list):
                raise BadAnswer(f"{name!r} was answered without choices: {str(value)[:80]!r}")
            if given.setdefault(name, chosen) != chosen:
                raise BadAnswer(f"{name!r} was answered twice and differently")
        for name, chosen in given.items():
            answers.update(controls[name].read(chosen))
        return answers

    def write(self, probabilities: Mapping[str, float], threshold: float = 0.5) -> list[dict[str, Any]]:
        """Write probabilities as a prediction's ``result``, so that reading it back gives ``p >= threshold``.

        Args:
            probabilities: Finding to probability; a finding left out or NaN gets no suggestion.
            threshold: Where a suggestion turns from no to yes.
        """
        written = ((c.name, c.write(probabilities, threshold)) for c in self.controls)
        return [
            {"from_name": name, "to_name": self.image_name, "type": "choices", "value": {"choices": chosen}}
            for name, chosen in written
            if chosen is not None
        ]


def make_interface(findings: Sequence[str]) -> Interface:
    """Make the labelling interface for some findings: one image, and yes / no / cannot tell for each finding.

    Args:
        findings: One to a hundred names, unique, each at most 60 printable characters.

    Raises:
        BadInterface: A name that cannot be used; the message says which and why.
    """
    if not 1 <= len(findings) <= 100:
        raise BadInterface(f"{len(findings)} findings were given; an interface takes 1 to 100.")
    seen: dict[str, str] = {}
    for name in findings:
        if not name.strip() or not name.isprintable() or name != name.strip():
            raise BadInterface(
                f"The finding name {name!r} is empty, padded or unprintable. Give it a plain name."
            )
        if len(name) > 60:
            raise BadInterface(
                f"The finding name {name!r} has {len(name)} characters; at most 60 fit the page."
            )
        if plain(name) in seen:
            raise BadInterface(
                f"The findings {seen[plain(name)]!r} and {name!r} are the same. Name each one once."
            )
        seen[plain(name)] = name
    return parse_interface(draw(findings))


def parse_interface(xml: str) -> Interface:
    """Read any labelling interface that is made of choices on one image.

    A choice between yes and no (and perhaps "cannot tell") is one finding, named by the control. In a
    multiple choice each value is a finding, absent when the control was answered without it.
    In any other single choice each value is a finding, one against the rest. Values like "no finding" or
    "normal" mean that all the control's findings are absent, values like "unsure" that they are not known.

    Raises:
        BadInterface: No choices, no single image, or names that cannot be told apart.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise BadInterface(f"The labelling interface is not XML: {error}.") from None
    named = {e.get("name", ""): e for e in root.iter() if e.get("name") and e.get("toName")}
    shown = {e.get("name", ""): e for e in root.iter(IMAGE) if e.get("name")}
    choices = [
        e for e in named.values() if e.tag == "Choices" and e.find(".//Choice") is not None and _per_image(e)
    ]
    usable = [e for e in choices if e.get("toName") in shown]  # others are about a text beside the image
    if not usable:
        raise BadInterface(_no_choices(choices, named))
    targets = sorted({str(e.get("toName")) for e in usable})
    image = shown[targets[0]]
    if len(targets) > 1 or not re.fullmatch(r"\$[^$\s]+", image.get("value") or ""):
        raise BadInterface(
            f"The choices refer to {targets}; the loop needs exactly one "
            '<Image value="$key"> that all of them refer to: one image a task.'
        )
    controls = tuple(read_control(e) for e in usable)
    findings = tuple(f for c in controls for f in c.findings)
    if twice := sorted({f for f in findings if findings.count(f) > 1}):
        raise BadInterface(
            f"Several controls decide the finding(s) {twice}; rename choices until each is decided once."
        )
    return Interface(
        findings=findings,
        image_name=targets[0],
        image_key=(image.get("value") or "").removeprefix("$"),
        controls=controls,
        others=frozenset(named) - {c.name for c in controls},
        xml=xml,
    )


def _no_choices(choices: Sequence[ET.Element], named: Mapping[str, ET.Element]) -> str:
    """Why nothing decides a finding, and what to do."""
    if choices:
        return (
            f"The choices refer to {sorted({str(e.get('toName')) for e in choices})}; the loop needs exactly one "
            '<Image value="$key"> that all of them refer to: one image a task.'
        )
    there = sorted({e.tag for e in named.values()})
    found = f" It has {', '.join(f'<{tag}>' for tag in there)}." if there else ""
    why = (
        " Its choices are made a region or an item each (perRegion, perItem), or come from the task's data."
        if "Choices" in there
        else ""
    )
    return (
        f"The labelling interface has no <Choices> about the whole image.{found}{why} The loop learns from choices; "
        "add one control a finding (yes / no / cannot tell), or let `loop start` create the project."
    )


def _per_image(element: ET.Element) -> bool:
    return not any(
        element.get(a, "false").lower() == "true" for a in ("perRegion", "perItem", "perregion", "peritem")
    )
