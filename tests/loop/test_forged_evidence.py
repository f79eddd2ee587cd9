"""Packs by people who want a verdict: every row is chained anew and the manifest is right, and still it does not follow."""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from evidence_packs import packed, play

from loop.evidence_check import (
    START,
    Refused,
    asked_of,
    check_pack,
    say,
    settings_at,
    share_alpha,
    weigh,
    write_json,
)

Row = dict[str, Any]


def digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


@dataclass
class Forger:
    """A pack taken apart, and put together again so that every hash fits."""

    files: dict[str, bytes]
    rows: list[Row]
    decision: Row
    settings: list[Row]

    @classmethod
    def of(cls, pack: Path) -> Forger:
        with zipfile.ZipFile(pack) as held:
            files = {name: held.read(name) for name in held.namelist() if name != "MANIFEST.json"}
        rows = [json.loads(line) for line in files["ledger.jsonl"].decode().splitlines()]
        for row in rows:
            del row["hash"]
        return cls(files, rows, json.loads(files["decision.json"]), json.loads(files["settings.json"]))

    @property
    def decided(self) -> int:
        """Place of the last decision's row."""
        return max(k for k, row in enumerate(self.rows) if row["event"] == "decided")

    def random_scores(self, finding: str) -> dict[int, list[float]]:
        """Round to the scores of its random images."""
        told: dict[int, list[float]] = {}
        for row in self.rows:
            if row["event"] == "asked" and row["stream"] == "random":
                told.setdefault(row["round"], []).append(row.get("scores", {}).get(finding))
        return told

    def claim(self) -> None:
        """Let the decision say what the forged ledger gives: evidence, thresholds, CERTIFIED."""
        found = self.decision["findings"]
        evidence = {
            name: weigh(asked_of(self.rows[: self.decided + 1], name), one["evidence"]["tested"])
            for name, one in found.items()
        }
        stop = settings_at(self.settings, self.decision["at"])
        shared = share_alpha(
            {name: told["log_e"] for name, told in evidence.items()},
            stop["stop.alpha"],
            stop["stop.correction"],
        )
        for name, one in found.items():
            told = evidence[name]
            one["evidence"] |= {name: told[name] for name in ("log_e", "positives", "negatives")}
            one["evidence"]["needed"] = shared[name][0]
            if shared[name][1]:
                one["verdict"] = "CERTIFIED"
            elif one["verdict"] == "CERTIFIED":
                one["verdict"] = "LIKELY REACHED"

    def seal(self) -> None:
        """Put the decision into its row of the ledger."""
        row = self.rows[self.decided]
        row["report_sha256"] = digest(write_json(self.decision))
        row["verdict"] = self.decision["verdict"]
        row["verdicts"] = {name: one["verdict"] for name, one in self.decision["findings"].items()}

    def write(self, out: Path, *, seal: bool = True) -> Path:
        if seal:
            self.seal()
        self.files["decision.json"] = write_json(self.decision).encode()
        self.files["settings.json"] = write_json(self.settings).encode()
        before, lines = START, []
        for seq, row in enumerate(self.rows, start=1):
            told = {**row, "seq": seq}
            before = digest(before + write_json(told))
            lines.append(write_json({**told, "hash": before}) + "\n")
        self.files["ledger.jsonl"] = "".join(lines).encode()
        return write_files(self.files, out)


def write_files(files: dict[str, bytes], out: Path) -> Path:
    manifest = {"files": {name: digest(content) for name, content in files.items()}}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in [*files.items(), ("MANIFEST.json", write_json(manifest).encode())]:
            pack.writestr(name, content)
    return out


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence of a project that asks for certificates and is still open."""
    folder = tmp_path_factory.mktemp("open")
    project = play(folder, 4, stop='target = 0.97\nevidence = "certified"')
    return packed(project, folder / "evidence.zip")


def test_what_is_put_together_unchanged_is_accepted(pack: Path, tmp_path: Path) -> None:
    told = check_pack(str(Forger.of(pack).write(tmp_path / "same.zip")))
    assert told == check_pack(str(pack))
    assert told["corrected"] == 0


def better_labels(forger: Forger) -> None:
    """What was read is what the scores would like, though people said otherwise."""
    for row in forger.rows:
        if row["event"] == "read" and row["round"] > 1:
            scores = forger.random_scores(row["finding"])[row["round"]][: len(row["y"])]
            row["y"] = [float(score >= sorted(scores)[len(scores) // 2]) for score in scores]
    forger.claim()


def later_readings(forger: Forger) -> None:
    """No row is changed: labels are read anew, better, before the decision."""
    at = forger.rows[forger.decided]["at"]
    new = [
        {
            "event": "read",
            "finding": "Effusion",
            "round": number,
            "at": at,
            "y": [float(s >= 0.5) for s in scores],
        }
        for number, scores in forger.random_scores("Effusion").items()
        if number in {row["round"] for row in forger.rows if row["event"] == "read"} - {1}
    ]
    forger.rows[forger.decided : forger.decided] = new
    forger.claim()


def later_bets(forger: Forger) -> None:
    """No row is changed: rounds are asked once more, with the bets that would have won."""
    at = forger.rows[forger.decided]["at"]
    rounds = sorted({row["round"] for row in forger.rows if row["event"] == "asked"})
    new = [
        {
            "event": "asked",
            "round": number,
            "stream": "active",
            "item": "f" * 32,
            "bets": {"Effusion": True},
            "at": at,
        }
        for number in rounds
    ]
    forger.rows[forger.decided : forger.decided] = new
    forger.claim()


def other_bets(forger: Forger) -> None:
    """One image's row of a round bets, the others do not."""
    rows = [row for row in forger.rows if row["event"] == "asked" and row["round"] == 3]
    rows[-1]["bets"] = {name: not bet for name, bet in (rows[-1]["bets"] or {"Effusion": False}).items()}
    forger.claim()


def labels_first(forger: Forger) -> None:
    """Every image was labelled before it was scored."""
    asked = [row for row in forger.rows if row["event"] == "asked"]
    others = [row for row in forger.rows if row["event"] != "asked"]
    forger.rows[:] = [*others[:-1], *asked, others[-1]]
    forger.claim()


def longer_readings(forger: Forger) -> None:
    """More labels were read than images were asked."""
    for row in forger.rows:
        if row["event"] == "read" and row["round"] == 2:
            row["y"] = row["y"] + [1.0] * 100


def lower_targets(forger: Forger) -> None:
    """The decision is of a lower target than the settings."""
    for one in forger.decision["findings"].values():
        one["target"], one["evidence"]["tested"] = 0.6, 0.57
    forger.claim()


def other_settings(forger: Forger) -> None:
    """Settings are of another rule, and the decision is as it was."""
    for one in forger.settings:
        one["settings"] |= {"stop.rule": ["Effusion"], "stop.evidence": "likely"}


def fewer_findings(forger: Forger) -> None:
    """A finding is left out, so that the other need not share the error rate."""
    del forger.decision["findings"]["Effusion"]
    forger.claim()


def stop_on_nothing(forger: Forger) -> None:
    """STOP, with verdicts that need no evidence, where certificates are asked for."""
    forger.decision |= {"verdict": "STOP", "reason": "All are there."}
    for one in forger.decision["findings"].values():
        one["verdict"] = "LIKELY REACHED"


def no_verdict(forger: Forger) -> None:
    """A verdict that the loop does not know."""
    forger.decision["verdict"] = "CERTIFIED\x1b[2K"


def no_findings(forger: Forger) -> None:
    """A decision about nothing."""
    forger.decision["findings"] = {}


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (better_labels, "people said otherwise"),
        (later_readings, "people said otherwise"),
        (later_bets, "is asked a second time"),
        (other_bets, "has two bets"),
        (labels_first, "was labelled before it was scored|labels were read of 0 images"),
        (longer_readings, "labels were read of"),
        (lower_targets, "its target is 0.97"),
        (other_settings, "made by: stop.evidence, stop.rule"),
        (fewer_findings, "of other findings than the settings"),
        (stop_on_nothing, "STOP does not follow: Effusion is LIKELY REACHED"),
        (no_verdict, "there is no verdict"),
        (no_findings, "of other findings"),
    ],
)
def test_a_ledger_chained_anew_is_refused_where_its_story_does_not_fit(
    pack: Path, tmp_path: Path, forge: Callable[[Forger], None], said: str
) -> None:
    forger = Forger.of(pack)
    forge(forger)
    with pytest.raises(Refused, match=said):
        check_pack(str(forger.write(tmp_path / "forged.zip")))


def test_the_row_of_the_decision_tells_the_same_verdicts(pack: Path, tmp_path: Path) -> None:
    forger = Forger.of(pack)
    forger.rows[forger.decided]["verdicts"] = dict.fromkeys(forger.decision["findings"], "CERTIFIED")
    with pytest.raises(Refused, match="other verdicts"):
        check_pack(str(forger.write(tmp_path / "forged.zip", seal=False)))


def test_a_correction_that_people_made_is_accepted_and_counted(pack: Path, tmp_path: Path) -> None:
    """A label of a random image is changed, and read anew: rows as `loop step --recount` writes them."""
    forger = Forger.of(pack)
    last = next(
        row for row in reversed(forger.rows) if row["event"] == "read" and row["finding"] == "Effusion"
    )
    place = next(k for k, value in enumerate(last["y"]) if value is not None)
    items = [
        row["item"]
        for row in forger.rows
        if row["event"] == "asked" and row["round"] == last["round"] and row["stream"] == "random"
    ]
    label = next(row for row in forger.rows if row["event"] == "labelled" and row["item"] == items[place])
    changed = json.loads(json.dumps(label)) | {"event": "relabelled"}
    changed["answers"]["Effusion"] = 1.0 - last["y"][place]
    y = [*last["y"]]
    y[place] = changed["answers"]["Effusion"]
    forger.rows[forger.decided : forger.decided] = [changed, {**last, "y": y}]
    forger.claim()
    told = check_pack(str(forger.write(tmp_path / "corrected.zip")))
    assert told["corrected"] == 1
    assert "1 labels were corrected" in say(told)


def wrong_file(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({name: content})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("decision.json", b"x"),
        ("decision.json", b"\xff\xfe\xff"),
        ("decision.json", b"[" * 200_000),
        ("decision.json", b"9" * 5_000),
        ("decision.json", b"null"),
        ("decision.json", b'{"at":1}'),
        ("settings.json", b"[{}]"),
        ("settings.json", b"[]"),
        ("ledger.jsonl", b"[" * 200_000 + b"\n"),
        ("ledger.jsonl", b""),
        ("ledger.jsonl", b"null\n"),
    ],
)
def test_a_damaged_file_is_refused_in_words(pack: Path, tmp_path: Path, name: str, content: bytes) -> None:
    forger = Forger.of(pack)
    forger.files[name] = content
    with pytest.raises(Refused):
        check_pack(str(write_files(forger.files, tmp_path / "wrong.zip")))


def test_a_key_twice_bytes_behind_the_last_row_and_foreign_files_are_refused(
    pack: Path, tmp_path: Path
) -> None:
    files = Forger.of(pack).files
    twice = {**files, "decision.json": b'{"verdict":"STOP",' + files["decision.json"][1:]}
    behind = {**files, "ledger.jsonl": files["ledger.jsonl"] + b'{"event":"rolled back"}'}
    foreign = {**files, "../../etc/x": b"1"}
    missing = {name: content for name, content in files.items() if name != "ledger.jsonl"}
    for wrong, said in (
        (twice, "a key twice"),
        (behind, "whole row"),
        (foreign, "no file of a pack"),
        (missing, "ledger.jsonl is missing"),
    ):
        with pytest.raises(Refused, match=said):
            check_pack(str(write_files(wrong, tmp_path / "wrong.zip")))


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_does(pack: Path, tmp_path: Path) -> None:
    files = {**Forger.of(pack).files, "report.html": b"\0" * (600 << 20)}
    with pytest.raises(Refused, match="larger than 512 MiB"):
        check_pack(str(write_files(files, tmp_path / "large.zip")))


def test_one_changed_byte_of_the_zip_is_refused_or_changes_nothing(pack: Path, tmp_path: Path) -> None:
    whole, dice, told = pack.read_bytes(), random.Random(0), check_pack(str(pack))
    wrong = tmp_path / "wrong.zip"
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        content[dice.randrange(len(content))] ^= dice.randrange(1, 256)
        wrong.write_bytes(content)
        try:
            assert check_pack(str(wrong)) == told  # a byte of the zip's own notes, such as a date
        except Refused:
            refused += 1
    assert refused > 130


def test_what_is_said_holds_no_control_character(pack: Path, tmp_path: Path) -> None:
    forger = Forger.of(pack)
    forger.decision["reason"] = "Fine.\x1b[2K\r\nEffusion: CERTIFIED."
    said = say(check_pack(str(forger.write(tmp_path / "said.zip"))))
    assert "\x1b" not in said
    assert "\r" not in said
    assert "Fine.?[2K??Effusion: CERTIFIED." in said
