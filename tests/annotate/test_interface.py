"""Findings to XML and back: what an annotator clicks is what the loop reads, for every kind of interface."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.controls import plain
from annotate.errors import BadAnswer, BadInterface
from annotate.interface import Interface, make_interface, parse_interface
from annotate.layout import HOT_KEYS, slugs

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
some_findings = st.lists(names, min_size=1, max_size=8, unique_by=plain)
probability = st.floats(0, 1)

MULTIPLE = """<View><Image name="img" value="$scan"/>
<Choices name="path" toName="img" choice="multiple">
  <Choice value="Edema"/><Choice value="Effusion" alias="eff"/><Choice value="Opacity"/>{more}
</Choices></View>"""
SINGLE = """<View><Image name="img" value="$scan"/>
<Choices name="class" toName="img" choice="single">
  <Choice value="bacterial"/><Choice value="viral"/>{more}
</Choices></View>"""
NESTED = """<View><Image name="img" value="$scan"/>
<Choices name="path" toName="img" choice="multiple" allowNested="true">
  <Choice value="Lung"><Choice value="Opacity"/><Choice value="Nodule"/></Choice>
  <Choice value="Heart"><Choice value="Enlarged"/></Choice>
</Choices></View>"""
QUESTIONS = """<View><Image name="img" value="$scan"/>
<View><Choices name="edema" toName="img"><Choice value="Present"/><Choice value="Absent"/></Choices></View>
<Choices name="hernia" toName="img"><Choice value="Ja" alias="yes"/><Choice value="Nein" alias="no"/>
  <Choice value="?" alias="dunno"/></Choices>
<Choices name="per_box" toName="img" perRegion="true"><Choice value="yes"/><Choice value="no"/></Choices>
<RectangleLabels name="box" toName="img"><Label value="Lesion"/></RectangleLabels>
<TextArea name="comment" toName="img"/></View>"""


def answer(name: str, *chosen: object) -> dict[str, object]:
    return {"from_name": name, "to_name": "img", "type": "choices", "value": {"choices": list(chosen)}}


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for k in a)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_made_interface_reads_back_what_it_was_made_of(data: st.DataObject) -> None:
    findings = data.draw(some_findings)
    interface = make_interface(findings)
    assert list(interface.findings) == findings
    p = {f: data.draw(probability) for f in findings}
    assert interface.read(interface.write(p)) == {f: float(p[f] >= 0.5) for f in findings}


@pytest.mark.parametrize(
    "xml",
    [MULTIPLE.format(more=""), MULTIPLE.format(more='<Choice value="No finding"/>'), NESTED, QUESTIONS],
    ids=["several", "several with no finding", "nested", "questions"],
)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_written_reads_back_as_p_at_least_one_half(xml: str, data: st.DataObject) -> None:
    interface = parse_interface(xml)
    p = {f: data.draw(probability) for f in interface.findings}
    assert interface.read(interface.write(p)) == {f: float(p[f] >= 0.5) for f in interface.findings}


@settings(max_examples=40, deadline=None)
@given(p=st.floats(0, 1))
def test_one_class_against_the_rest_reads_back_where_the_probabilities_exclude_each_other(p: float) -> None:
    plain, with_normal = (parse_interface(SINGLE.format(more=m)) for m in ("", '<Choice value="Normal"/>'))
    if p != 0.5:
        two = {"bacterial": p, "viral": 1 - p}
        assert plain.read(plain.write(two)) == {f: float(q >= 0.5) for f, q in two.items()}
    three = {"bacterial": p / 2.1, "viral": (1 - p) / 2.1}
    assert with_normal.read(with_normal.write(three)) == {"bacterial": 0.0, "viral": 0.0}
    assert plain.write(three) == []  # it cannot say "neither", so it says nothing


def test_a_finding_without_a_probability_gets_no_suggestion() -> None:
    interface = make_interface(["Edema", "Effusion"])
    written = interface.write({"Edema": 0.9, "Effusion": math.nan})
    assert [part["from_name"] for part in written] == ["edema"]
    assert same(interface.read(written), {"Edema": 1.0, "Effusion": math.nan})


def test_a_list_of_tick_boxes_says_absent_only_where_it_was_answered() -> None:
    interface = parse_interface(MULTIPLE.format(more='<Choice value="No finding"/><Choice value="Unsure"/>'))
    assert interface.findings == ("Edema", "Effusion", "Opacity")
    assert interface.image_key == "scan"
    assert interface.read([answer("path", "Edema", "eff")]) == {"Edema": 1.0, "Effusion": 1.0, "Opacity": 0.0}
    assert (
        interface.read([answer("path", "Effusion")])["Effusion"] == 1.0
    )  # the value is understood like its alias
    assert interface.read([answer("path", "No finding")]) == {"Edema": 0.0, "Effusion": 0.0, "Opacity": 0.0}
    assert same(
        interface.read([answer("path", "Edema", "Unsure")]),
        {"Edema": 1.0, "Effusion": math.nan, "Opacity": math.nan},
    )
    assert all(math.isnan(v) for v in interface.read([]).values())


def test_one_class_against_the_rest() -> None:
    interface = parse_interface(SINGLE.format(more='<Choice value="normal"/><Choice value="unclear"/>'))
    assert interface.findings == ("bacterial", "viral")
    assert interface.read([answer("class", "viral")]) == {"bacterial": 0.0, "viral": 1.0}
    assert interface.read([answer("class", "normal")]) == {"bacterial": 0.0, "viral": 0.0}
    assert all(math.isnan(v) for v in interface.read([answer("class", "unclear")]).values())


def test_pneumonia_against_no_pneumonia_is_one_finding() -> None:
    xml = SINGLE.replace("bacterial", "Pneumonia").replace("viral", "No pneumonia").format(more="")
    interface = parse_interface(xml)
    assert interface.findings == ("Pneumonia",)
    assert interface.read([answer("class", "No pneumonia")]) == {"Pneumonia": 0.0}


def test_questions_with_other_words_and_aliases_are_yes_no_and_cannot_tell() -> None:
    interface = parse_interface(QUESTIONS)
    assert interface.findings == ("edema", "hernia")
    assert interface.read([answer("edema", "Absent"), answer("hernia", "yes")]) == {
        "edema": 0.0,
        "hernia": 1.0,
    }
    assert same(interface.read([answer("hernia", "dunno")]), {"edema": math.nan, "hernia": math.nan})


def test_what_is_neither_yes_nor_no_in_a_question_is_not_known() -> None:
    xml = (
        SINGLE.replace("bacterial", "yes")
        .replace("viral", "no")
        .format(more='<Choice value="Not assessable"/>')
    )
    assert math.isnan(parse_interface(xml).read([answer("class", "Not assessable")])["class"])


def test_grades_are_classes_and_not_a_question() -> None:
    xml = SINGLE.replace("bacterial", "0").replace("viral", "1").format(more='<Choice value="2"/>')
    assert parse_interface(xml).findings == ("0", "1", "2")


def test_a_question_in_words_may_have_numbers_as_aliases() -> None:
    choices = [("Present", "1"), ("Absent", "0"), ("Not assessable", "9")]
    drawn = "".join(f'<Choice value="{value}" alias="{alias}"/>' for value, alias in choices)
    xml = f'<View><Image name="i" value="$x"/><Choices name="Effusion" toName="i">{drawn}</Choices></View>'
    (control,) = parse_interface(xml).controls
    assert control.findings == ("Effusion",)
    assert [choice.says for choice in control.choices] == ["present", "absent", "unsure"]


def test_choices_about_a_text_beside_the_image_are_left_alone() -> None:
    xml = (
        '<View><Image name="i" value="$x"/><HyperText name="t" value="$t"/><Choices name="Edema" toName="i">'
        '<Choice value="yes"/><Choice value="no"/></Choices><Choices name="kind" toName="t"><Choice value="CT"/></Choices></View>'
    )
    interface = parse_interface(xml)
    assert interface.findings == ("Edema",)
    assert "kind" in interface.others


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('<Image name="i" value="$x"/><Taxonomy name="t" toName="i"><Choice value="a"/></Taxonomy>', "It has <Taxonomy>"),
        ('<Image name="i" value="$x"/><Choices name="c" toName="i" perRegion="true"><Choice value="a"/></Choices>', "perRegion"),
        ('<Image name="i" value="$x"/><Choices name="c" toName="i" value="$options"/>', "come from the task's data"),
        ('<Image name="i" valueList="$xs"/><Choices name="c" toName="i"><Choice value="a"/></Choices>', "one image a task"),
        ('<Image name="i" value="$x"/><Image name="j" value="$y"/><Choices name="c" toName="i"><Choice value="a"/></Choices>'
         '<Choices name="d" toName="j"><Choice value="b"/></Choices>', "one image a task"),
        ('<HyperText name="h" value="$x"/><Choices name="c" toName="h"><Choice value="a"/></Choices>', "one image a task"),
        ('<Image name="i" value="$x"/><RectangleLabels name="r" toName="i"><Label value="a"/></RectangleLabels>',
         "no <Choices> about the whole image. It has <RectangleLabels>"),
    ],
)  # fmt: skip
def test_what_is_not_one_image_with_choices_is_refused_with_what_there_is(body: str, reason: str) -> None:
    with pytest.raises(BadInterface, match=re.escape(reason)):
        parse_interface(f"<View>{body}</View>")


def test_controls_that_decide_no_finding_are_left_alone() -> None:
    interface = parse_interface(QUESTIONS)
    box = {"from_name": "box", "type": "rectanglelabels", "value": {"rectanglelabels": ["Lesion"]}}
    comment = {"from_name": "comment", "type": "textarea", "value": {"text": ["odd"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    assert (
        interface.read([box, comment, relation, answer("per_box", "yes"), answer("edema", "Present")])[
            "edema"
        ]
        == 1.0
    )


def test_a_nested_answer_may_name_the_enclosing_choice_too() -> None:
    interface = parse_interface(NESTED)
    assert interface.findings == ("Opacity", "Nodule", "Enlarged")
    read = interface.read([answer("path", ["Lung"], ["Lung", "Nodule"])])
    assert read == {"Opacity": 0.0, "Nodule": 1.0, "Enlarged": 0.0}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ([answer("gone", "yes")], "no control 'gone'"),
        ([answer("edema", "perhaps so")], "no one choice 'perhaps so'"),
        ([answer("edema", "yes", "no")], "takes one choice"),
        ([answer("edema", "yes"), answer("edema", "no")], "twice"),
        ([{"from_name": "edema", "value": {"text": "yes"}}], "without choices"),
        ([{"foo": 1}], "no control None"),
        (["yes"], "not an object"),
        ("yes", "not a list"),
    ],
)
def test_an_answer_that_the_interface_does_not_know_is_refused_with_its_reason(
    result: Any, reason: str
) -> None:
    with pytest.raises(BadAnswer, match=reason):
        make_interface(["Edema"]).read(result)


def test_no_finding_together_with_a_finding_is_a_contradiction() -> None:
    interface = parse_interface(MULTIPLE.format(more='<Choice value="No finding"/>'))
    with pytest.raises(BadAnswer, match="contradicts"):
        interface.read([answer("path", "Edema", "No finding")])


@pytest.mark.parametrize(
    ("findings", "reason"),
    [
        ([], "0 findings"),
        (["Edema", "edema "], "padded"),
        (["Edema", "EDEMA"], "same"),
        ([""], "empty"),
        (["x" * 61], "61 characters"),
        (["a\nb"], "unprintable"),
        ([f"f{i}" for i in range(101)], "101"),
    ],
)
def test_names_that_cannot_be_used_are_refused_by_name(findings: list[str], reason: str) -> None:
    with pytest.raises(BadInterface, match=reason):
        make_interface(findings)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("<View><Image", "not XML"),
        ('<View><Image name="i" value="$i"/><TextArea name="t" toName="i"/></View>', "no <Choices>"),
        (
            '<View><Text name="i" value="$i"/><Choices name="c" toName="i"><Choice value="a"/></Choices>'
            "</View>",
            "one",
        ),
        (MULTIPLE.format(more='<Choice value="Edema"/>'), "twice"),
        (SINGLE.replace("viral", "unsure").replace("bacterial", "normal").format(more=""), "names a finding"),
    ],
)
def test_an_interface_that_cannot_be_understood_is_refused_with_its_reason(xml: str, reason: str) -> None:
    with pytest.raises(BadInterface, match=reason):
        parse_interface(xml)


def test_the_fingerprint_sees_meaning_and_not_looks() -> None:
    plain = parse_interface(SINGLE.format(more=""))
    for changed in (
        SINGLE.replace('"viral"', '"fungal"').format(more=""),
        SINGLE.replace('name="class"', 'name="kind"').format(more=""),
        SINGLE.replace('choice="single"', 'choice="multiple"').format(more=""),
        SINGLE.format(more='<Choice value="normal"/>'),
    ):
        assert parse_interface(changed).fingerprint != plain.fingerprint
    reordered = (
        SINGLE.replace("<View>", '<View style="color: red">')
        .format(more="")
        .replace(
            '<Choice value="bacterial"/><Choice value="viral"/>',
            '<Choice value="viral"/><Choice value="bacterial" hotkey="b"/>',
        )
    )
    assert parse_interface(reordered).fingerprint == plain.fingerprint


def test_hostile_names_stay_text() -> None:
    hostile = ['<b onclick="x">', "a & b", "'\"]]>", "]]>&lt;"]
    interface = make_interface(hostile)
    assert interface.findings == tuple(hostile)
    assert {e.tag for e in ET.fromstring(interface.xml).iter()} == {
        "View",
        "Style",
        "Image",
        "Header",
        "Choices",
        "Choice",
    }


def test_control_names_are_plain_and_unique() -> None:
    assert slugs(["Édème", "edeme", "胸水", "Image", "edeme 2"]) == [
        "edeme",
        "edeme_2",
        "finding_3",
        "image_2",
        "edeme_2_2",
    ]


def test_no_hot_key_is_given_twice_or_taken_from_label_studio() -> None:
    """Label Studio 1.23 keeps h (pan), u (unselect), v (move), shift+1 and shift+2 (zoom)."""
    keys = [key for column in HOT_KEYS for key in column]
    assert len(set(keys)) == len(keys)
    assert not {"h", "u", "v", "shift+1", "shift+2"} & set(keys)
    page = ET.fromstring(make_interface([f"f{i}" for i in range(14)]).xml)
    assert sum(choice.get("hotkey") is not None for choice in page.iter("Choice")) == 3 * 14


def test_an_interface_has_one_control_a_finding_with_three_answers() -> None:
    interface: Interface = make_interface(["Edema"])
    assert [(c.label, c.says) for c in interface.controls[0].choices] == [
        ("yes", "present"),
        ("no", "absent"),
        ("cannot tell", "unsure"),
    ]
