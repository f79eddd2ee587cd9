"""The page an annotator sees: image on the left, findings on the right, a column of the keyboard for each."""

from __future__ import annotations

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence

IMAGE = "Image"
YES, NO, CANNOT_TELL = "yes", "no", "cannot tell"

# Columns of the keyboard, top to bottom: yes, no, cannot tell. Label Studio keeps h (pan), u (unselect),
# shift+1 and shift+2 (zoom) for itself, so the sixth and seventh column step around h and u.
_COLUMNS = tuple(
    tuple(keys.split())
    for keys in ["1 q a", "2 w s", "3 e d", "4 r f", "5 t g", "6 y n", "7 j m", "8 i k", "9 o l"]
)
HOT_KEYS = (*_COLUMNS, *(tuple(f"shift+{key}" for key in column) for column in _COLUMNS[2:]))

# Label Studio's tools stand beside the image and come after it is laid out. Taken out of the flow they no longer
# narrow it, which would crop the image; side panels are for regions, which these questions do not have.
_KEYS = ("Submit Ctrl+Enter, skip Ctrl+Space", "On a Mac: ⌘+Enter, ⌥+Enter")

_STYLE = """
.lsf-sidepanels { padding: 0 !important; }
.lsf-sidepanels__wrapper { display: none; }
.reading { display: flex; gap: 16px; align-items: flex-start; }
.picture { flex: 1 1 auto; min-width: 0; }
.picture .lsf-object { position: relative; padding-right: 42px; }
.picture .lsf-toolbar { position: absolute; top: 0; right: 0; margin: 0; }
.findings { flex: 0 0 336px; max-height: calc(100vh - 134px); overflow-y: auto; }
.finding { display: grid; grid-template-columns: minmax(0, 1fr) auto; align-items: center; gap: 10px;
  padding: 4px 0; border-bottom: 1px solid rgba(128, 128, 128, .22); }
.finding:last-child { border-bottom: none; }
.finding h4 { margin: 0 !important; font-size: 14px; line-height: 17px; font-weight: 600;
  overflow-wrap: anywhere; }
.finding .lsf-choices { margin: 0; display: grid; grid-template-columns: 52px 52px 84px; gap: 4px; }
.finding .lsf-choice, .finding .lsf-choice__item { margin: 0; padding: 0; width: 100%; }
.finding label { display: block; margin: 0; padding: 3px 0 4px; height: 36px; border-radius: 6px;
  text-align: center; border: 1px solid rgba(128, 128, 128, .45); font-size: 13px; line-height: 15px;
  cursor: pointer; }
.finding label:hover { background: rgba(128, 128, 128, .14); }
.finding label span { padding: 0; }
.finding .ant-radio { position: absolute; opacity: 0; }
.finding .lsf-hint { display: block; position: static; font-size: 11px; line-height: 12px; opacity: .75; }
.finding .ant-radio-wrapper-checked, .finding .ant-radio-wrapper-checked :is(span, sup) { color: #fff; }
.finding .lsf-choice:nth-child(1) label.ant-radio-wrapper-checked { background: #b93a0c; }
.finding .lsf-choice:nth-child(2) label.ant-radio-wrapper-checked { background: #2f6690; }
.finding .lsf-choice:nth-child(3) label.ant-radio-wrapper-checked { background: #5f6673; }
.finding .ant-radio-wrapper-checked .lsf-hint { opacity: .85; }
.keys { margin-top: 12px; }
.keys h4 { margin: 0 !important; font-size: 13px; line-height: 18px; font-weight: 400; opacity: .75; }
.finding label:focus-within { outline: 2px solid #7a8cf0; outline-offset: 1px; }
"""


def draw(findings: Sequence[str]) -> str:
    """Draw the labelling interface as XML; names are escaped, the order of the findings is kept."""
    view = ET.Element("View", className="reading")
    ET.SubElement(view, "Style").text = _STYLE
    picture = ET.SubElement(view, "View", className="picture")
    ET.SubElement(
        picture, IMAGE, name="image", value="$image", zoom="true", zoomControl="true",
        brightnessControl="true", contrastControl="true", rotateControl="true",
        maxHeight="calc(100vh - 134px)", horizontalAlignment="right",
    )  # fmt: skip
    column = ET.SubElement(view, "View", className="findings")
    for i, (finding, slug) in enumerate(zip(findings, slugs(findings), strict=True)):
        row = ET.SubElement(column, "View", className="finding")
        ET.SubElement(row, "Header", value=finding, size="5")
        choices = ET.SubElement(
            row, "Choices", name=slug, toName="image", choice="single-radio", showInline="true",
            required="true", requiredMessage=f"{finding}: yes, no or cannot tell?", finding=finding,
        )  # fmt: skip
        keys = HOT_KEYS[i] if i < len(HOT_KEYS) else (None, None, None)
        for value, key in zip((YES, NO, CANNOT_TELL), keys, strict=True):
            ET.SubElement(choices, "Choice", {"value": value} | ({"hotkey": key} if key else {}))
    hint = ET.SubElement(column, "View", className="keys")
    for line in _KEYS:
        ET.SubElement(hint, "Header", value=line, size="5")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


def slugs(names: Sequence[str]) -> list[str]:
    """Unique control names of plain letters, digits and underscores, one for each finding."""
    taken = {"image"}
    out = []
    for i, name in enumerate(names, start=1):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or f"finding_{i}"
        slug, n = stem, 1
        while slug in taken:
            n += 1
            slug = f"{stem}_{n}"
        taken.add(slug)
        out.append(slug)
    return out
