"""One group of choices: what each says about which finding, whatever kind of group it is."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from annotate.errors import BadAnswer, BadInterface

Says = Literal["present", "absent", "unsure"]

_YES = frozenset(["yes", "y", "true", "1", "present", "positive", "pos", "ja", "oui", "sí", "si", "sì"])
_NO = frozenset(["no", "n", "false", "0", "absent", "not present", "negative", "neg", "nein", "non"])
_NORMAL = frozenset(
    [
        "no finding",
        "no findings",
        "normal",
        "none",
        "none of these",
        "none of the above",
        "nothing",
        "healthy",
        "negative",
        "clear",
        "unremarkable",
        "no abnormality",
        "no abnormalities",
        "no disease",
    ]
)
_UNSURE = frozenset(
    [
        "cannot tell",
        "can't tell",
        "cant tell",
        "uncertain",
        "unsure",
        "unclear",
        "unknown",
        "maybe",
        "not sure",
        "don't know",
        "dont know",
        "indeterminate",
        "equivocal",
        "undecided",
        "?",
        "unklar",
        "incertain",
    ]
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing an annotator can click.

    Attributes:
        label: How it appears in a result: the alias if it has one, else the value.
        value: How it appears on the page.
        path: Labels from the outermost enclosing choice down to this one.
        says: What taking it means.
        finding: The finding it declares present; None for absent and unsure.
    """

    label: str
    value: str
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
        named = [c for c in self.choices if path == c.path] or [
            c for c in self.choices if path in ((c.label,), (c.value,))
        ]
        if len(named) == 1:
            return named[0]
        if not named and any(path in (group, group[-1:]) for group in self.groups):
            return None
        raise BadAnswer(
            f"'{self.name}' has no one choice {given!r}; it has {[c.label for c in self.choices]}"
        )


def read_control(element: ET.Element) -> Control:
    """Decide what each choice of one ``<Choices>`` says."""
    name = element.get("name", "")
    leaves, groups = _leaves(element, ())
    labels = [path[-1] for path, _ in leaves]
    if len({path for path, _ in leaves}) < len(leaves):
        raise BadInterface(f"The control '{name}' has the same choice twice: {labels}.")
    words = [{plain(path[-1]), plain(value)} for path, value in leaves]
    yes, no, unsure = ([bool(w & known) for w in words] for known in (_YES, _NO, _UNSURE))
    others = [w for w, y, n in zip(words, yes, no, strict=True) if not y and not n]
    in_words = all(
        any(not word.isdigit() for w in words for word in w & known) for known in (_YES, _NO)
    )  # else 0 and 1 may be grades
    question = sum(yes) == sum(no) == 1 and (
        in_words or not any(word.isdigit() for w in others for word in w)
    )
    if question:  # whatever else it offers ("not assessable") is neither yes nor no
        unsure = [not y and not n for y, n in zip(yes, no, strict=True)]
    absent = no if question else [bool(w & _NORMAL) for w in words]
    rest = [i for i in range(len(leaves)) if not unsure[i] and not absent[i]]
    if not question and len(rest) == 2 and not any(absent):  # "pneumonia" against "no pneumonia"
        for i, j in (rest, rest[::-1]):
            if any(
                plain(leaves[i][1]) == f"{not_} {plain(leaves[j][1])}"
                for not_ in ("no", "not", "non", "without")
            ):
                absent[i], rest = True, [j]
    if not rest:
        raise BadInterface(f"The control '{name}' has no choice that names a finding: {labels}.")
    values = [leaves[i][1] for i in rest]
    called = {
        i: v if values.count(v) == 1 else " / ".join(leaves[i][0]) for i, v in zip(rest, values, strict=True)
    }
    if question:
        called = {rest[0]: element.get("finding") or name}
    return Control(
        name=name,
        findings=tuple(called.values()),
        choices=tuple(
            Choice(
                label=path[-1],
                value=value,
                path=path,
                says="unsure" if unsure[i] else "absent" if absent[i] else "present",
                finding=called.get(i),
            )
            for i, (path, value) in enumerate(leaves)
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


def plain(text: str) -> str:
    """Lower case, single spaces, no punctuation at the end: how two names are compared."""
    return (
        " ".join(text.casefold().replace("’", "'").replace("_", " ").replace("-", " ").split()).rstrip(".!:;")
        or text
    )
