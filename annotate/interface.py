"""The labelling interface: findings as Label Studio's XML, and back from any XML made of choices.

Every control is brought to one form. A *choice* says that one finding is present, that all the control's
findings are absent, or that the annotator cannot tell; a yes / no question, a list of tick boxes and a
multi-class radio group differ only in how many choices may be taken at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from annotate.errors import BadAnswer, BadInterface
from annotate.layout import CANNOT_TELL, IMAGE, NO, YES, draw

Says = Literal["present", "absent", "unsure"]

_YES = {"yes", "y", "true", "1", "present", "positive", "pos", "ja", "oui", "sí", "si", "sì"}
_NO = {"no", "n", "false", "0", "absent", "not present", "negative", "neg", "nein", "non"}
_NORMAL = {"no finding", "no findings", "normal", "none", "none of these", "none of the above", "nothing"} | {
    "healthy", "negative", "clear", "unremarkable", "no abnormality", "no abnormalities", "no disease"
}  # fmt: skip
_UNSURE = {"cannot tell", "can't tell", "cant tell", "uncertain", "unsure", "unclear", "unknown", "maybe"} | {
    "not sure", "don't know", "dont know", "indeterminate", "equivocal", "undecided", "?", "unklar", "incertain"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing an annotator can click.

    Attributes:
        label: How it appears in a result: the alias if it has one, else the value.
        path: Labels from the outermost enclosing choice down to this one.
        says: What taking it means.
        finding: The finding it declares present; None for absent and unsure.
    """

    label: str
    path: tuple[str, ...]
    says: Says
    finding: str | None


@dataclass(frozen=True, slots=True)
class Control:
    """One group of choices and the findings it decides.

    Attributes:
        name: Its name in the XML, ``from_name`` in a result.
        findings: The findings it decides, in the order of its choices.
        choices: The leaves that can be taken.
        groups: Paths of choices that only enclose others; they may appear in a result and say nothing.
        several: More than one choice may be taken at once.
        nested: A result names each choice by its whole path.
    """

    name: str
    findings: tuple[str, ...]
    choices: tuple[Choice, ...]
    groups: frozenset[tuple[str, ...]]
    several: bool
    nested: bool

    def read(self, answer: Sequence[Any]) -> dict[str, float]:
        """Read the choices taken as finding to 1.0, 0.0 or NaN; none taken in a single choice = no answer."""
        taken = [choice for given in answer if (choice := self._choice(given)) is not None]
        if not self.several and not taken:
            return dict.fromkeys(self.findings, math.nan)
        if not self.several and len(taken) > 1:
            raise BadAnswer(f"'{self.name}' takes one choice, but {[c.label for c in taken]} were given")
        present = {c.finding for c in taken if c.says == "present"}
        unsure = any(c.says == "unsure" for c in taken)
        if any(c.says == "absent" for c in taken) and (present or unsure):
            raise BadAnswer(f"'{self.name}' contradicts itself: {[c.label for c in taken]}")
        return {f: 1.0 if f in present else math.nan if unsure else 0.0 for f in self.findings}

    def write(self, probabilities: Mapping[str, float], threshold: float) -> list[Any] | None:
        """The choices to show for these probabilities; None where there is nothing honest to show."""
        known = {f: p for f in self.findings if not math.isnan(p := probabilities.get(f, math.nan))}
        likely = [f for f in self.findings if known.get(f, -math.inf) >= threshold]
        if not self.several and likely:
            likely = [max(likely, key=known.__getitem__)]
        taken = [c for c in self.choices if c.finding is not None and c.finding in likely]
        if not taken and len(known) < len(self.findings):
            return None
        taken = taken or [c for c in self.choices if c.says == "absent"][:1]
        if not taken and not self.several:
            return None
        return [list(c.path) if self.nested else c.label for c in taken]

    def _choice(self, given: Any) -> Choice | None:
        """The choice that a result names by label or path; None for a mere group."""
        path = tuple(given) if isinstance(given, list) else (given,)
        for choice in self.choices:
            if path in (choice.path, (choice.label,)):
                return choice
        if path in self.groups or any(path == group[-1:] for group in self.groups):
            return None
        raise BadAnswer(f"'{self.name}' has no choice {given!r}; it has {[c.label for c in self.choices]}")


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
        """Hash of what gives an answer its meaning: controls, choices and findings, whatever their order or look."""
        meaning = sorted(
            [c.name, c.several, self.image_name, self.image_key, sorted([*h.path, h.says, h.finding or ""] for h in c.choices)]
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
            if name in self.others or part.get("type") == "relation":
                continue
            if name not in controls:
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
                f"The finding name {name!r} is empty, padded or holds unprintable characters. Give it a plain name."
            )
        if len(name) > 60:
            raise BadInterface(f"The finding name {name!r} has {len(name)} characters; at most 60 fit the page.")
        if _plain(name) in seen:
            raise BadInterface(f"The findings {seen[_plain(name)]!r} and {name!r} are the same. Name each one once.")
        seen[_plain(name)] = name
    return parse_interface(draw(findings))


def parse_interface(xml: str) -> Interface:
    """Read any labelling interface that is made of choices on one image.

    A single choice whose values mean yes and no (and perhaps "cannot tell") is one finding, named by the
    control. In a multiple choice each value is a finding, absent when the control was answered without it.
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
    usable = [e for e in named.values() if e.tag == "Choices" and e.find(".//Choice") is not None and _per_image(e)]
    if not usable:
        raise BadInterface(
            "The labelling interface has no <Choices> about the whole image. The loop learns from choices; add one "
            "control a finding (yes / no / cannot tell), or let `loop start` create the project."
        )
    targets = {e.get("toName") for e in usable}
    images = [e for e in root.iter(IMAGE) if e.get("name") in targets]
    if len(images) != 1 or len(targets) != 1 or not (images[0].get("value") or "").startswith("$"):
        raise BadInterface(
            f"The choices refer to {sorted(str(t) for t in targets)}; the loop needs exactly one "
            '<Image value="$key"> that all of them refer to.'
        )
    controls = tuple(_control(e) for e in usable)
    findings = tuple(f for c in controls for f in c.findings)
    if twice := sorted({f for f in findings if findings.count(f) > 1}):
        raise BadInterface(f"Several controls decide the finding(s) {twice}; rename the choices so that each is decided once.")
    return Interface(
        findings=findings,
        image_name=images[0].get("name", ""),
        image_key=(images[0].get("value") or "").removeprefix("$"),
        controls=controls,
        others=frozenset(named) - {c.name for c in controls},
        xml=xml,
    )


def _per_image(element: ET.Element) -> bool:
    return not any(element.get(a, "false").lower() == "true" for a in ("perRegion", "perItem", "perregion", "peritem"))


def _control(element: ET.Element) -> Control:
    """Decide what each choice of one ``<Choices>`` says."""
    name = element.get("name", "")
    leaves, groups = _leaves(element, ())
    labels = [path[-1] for path, _ in leaves]
    if len({path for path, _ in leaves}) < len(leaves):
        raise BadInterface(f"The control '{name}' has the same choice twice: {labels}.")
    words = [{_plain(path[-1]), _plain(value)} for path, value in leaves]
    yes, no, unsure = ([bool(w & known) for w in words] for known in (_YES, _NO, _UNSURE))
    question = sum(yes) == sum(no) == 1 and sum(yes) + sum(no) + sum(unsure) == len(leaves)
    absent = no if question else [bool(w & _NORMAL) for w in words]
    rest = [i for i in range(len(leaves)) if not unsure[i] and not absent[i]]
    if not question and len(rest) == 2 and not any(absent):  # "pneumonia" against "no pneumonia"
        for i, j in (rest, rest[::-1]):
            if any(_plain(leaves[i][1]) == f"{not_} {_plain(leaves[j][1])}" for not_ in ("no", "not", "non", "without")):
                absent[i], rest = True, [j]
    if not rest:
        raise BadInterface(f"The control '{name}' has no choice that names a finding: {labels}.")
    values = [leaves[i][1] for i in rest]
    called = {i: v if values.count(v) == 1 else " / ".join(leaves[i][0]) for i, v in zip(rest, values, strict=True)}
    if question:
        called = {rest[0]: element.get("finding") or name}
    return Control(
        name=name,
        findings=tuple(called.values()),
        choices=tuple(
            Choice(path[-1], path, "unsure" if unsure[i] else "absent" if absent[i] else "present", called.get(i))
            for i, (path, _) in enumerate(leaves)
        ),
        groups=frozenset(groups),
        several=not question and element.get("choice") == "multiple",
        nested=(element.get("allowNested") or element.get("allownested") or "").lower() == "true",
    )


def _leaves(
    element: ET.Element, above: tuple[str, ...]
) -> tuple[list[tuple[tuple[str, ...], str]], list[tuple[str, ...]]]:
    """Leaves as (path of labels, shown value), and the paths that only enclose others."""
    leaves: list[tuple[tuple[str, ...], str]] = []
    groups: list[tuple[str, ...]] = []
    for child in element:
        if child.tag == "Choice":
            value = child.get("value") or child.get("html") or child.get("alias") or ""
            path = (*above, child.get("alias") or value)
            if child.find(".//Choice") is None:
                leaves.append((path, value))
                continue
            groups.append(path)
        else:
            path = above
        deeper, enclosing = _leaves(child, path)
        leaves += deeper
        groups += enclosing
    return leaves, groups


def _plain(text: str) -> str:
    """Lower case, single spaces, no punctuation at the end: how two names are compared."""
    return " ".join(text.casefold().replace("’", "'").replace("_", " ").replace("-", " ").split()).rstrip(".!:;") or text


__all__ = ["CANNOT_TELL", "NO", "YES", "Choice", "Control", "Interface", "make_interface", "parse_interface"]
