"""Check an evidence pack with nothing but Python: no package is needed, and the file can be read in a quarter of an hour.

    python verify.py evidence.zip

Recomputed from the ledger alone: that no row was changed since its hash was made; that images were scored before they were labelled,
each round once; that the certificate read the labels that people gave; its evidence of every finding, the thresholds, whether
CERTIFIED may be said, and whether STOP follows. Believed: when rows were written, that the random stream was drawn at random, and the
forecast behind every other verdict. A ledger that was written anew as a whole is found by a hash of it that was kept elsewhere, and
by nothing else. The formulas are those of the README, written a second time on purpose.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import zipfile
import zlib
from datetime import datetime
from itertools import pairwise
from typing import Any

Row = dict[str, Any]
Labels = dict[str, dict[int, Row]]

FILES = (
    "MODEL_CARD.md",
    "decision.json",
    "ledger.jsonl",
    "probe.safetensors",
    "report.html",
    "settings.json",
    "verify.py",
    "versions.json",
)
LARGEST_FILES = 1 << 29  # bytes of all files together, unpacked: more is no pack but a trap

BETS, SHARES, LARGEST_BET, SITTING = (0.3, 0.6, 0.95), (0.2, 0.3, 0.5), 0.95, 25
START = "0" * 64
CLOSE = 1e-9  # of two sums of logarithms, relative


class Refused(Exception):
    """The pack is not what was written, or does not say what follows from it."""


def check_pack(path: str) -> Row:
    """Check a pack.

    Args:
        path: The zip file.

    Returns:
        What was recomputed, by finding, with the head of the ledger and the number of its rows.

    Raises:
        Refused: Something in it was changed, or does not follow; the message names it.
    """
    try:
        return _check(read_files(path))
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise Refused(
            f"its ledger, decision or settings lack something that a pack has ({type(error).__name__})"
        ) from None


def _check(files: dict[str, bytes]) -> Row:
    rows, hashes = check_chain(files["ledger.jsonl"])
    decision, frozen = (read_json(files[name], name) for name in ("decision.json", "settings.json"))
    seq = find_decision(rows, decision)
    settings = settings_at(frozen, decision["at"])
    check_settings(decision, settings)
    corrected = follow(rows[:seq])
    evidence = {
        name: weigh(asked_of(rows[:seq], name), one["evidence"]["tested"])
        for name, one in decision["findings"].items()
    }
    thresholds = share_alpha(
        {name: told["log_e"] for name, told in evidence.items()},
        settings["stop.alpha"],
        settings["stop.correction"],
    )
    for name, told in evidence.items():
        threshold, certified = thresholds[name]
        said = decision["findings"][name]
        told |= {
            "threshold": threshold,
            "certified": certified,
            "verdict": said["verdict"],
            "target": said["target"],
        }
        for what, ours, theirs in (
            ("evidence", told["log_e"], said["evidence"]["log_e"]),
            ("threshold", threshold, said["evidence"]["needed"]),
            ("positives", told["positives"], said["evidence"]["positives"]),
            ("negatives", told["negatives"], said["evidence"]["negatives"]),
            ("tested AUC", said["evidence"]["tested"], said["target"] - settings["stop.tolerance"]),
            ("target", target_of(settings, name), said["target"]),
        ):
            if not math.isclose(ours, theirs, rel_tol=CLOSE, abs_tol=CLOSE):
                raise Refused(
                    f"{name}: its {what} is {ours:.6g} by the ledger and settings, and the decision says {theirs:.6g}"
                )
        if (said["verdict"] == "CERTIFIED") != certified:
            raise Refused(
                f"{name}: the ledger's evidence {'certifies' if certified else 'does not certify'} it, the decision says {said['verdict']}"
            )
    check_stop(decision, settings)
    return {
        "rows": len(rows),
        "head": hashes[-1],
        "decided": decision["at"],
        "verdict": decision["verdict"],
        "reason": decision["reason"],
        "corrected": corrected,
        "findings": evidence,
    }


def read_files(path: str) -> dict[str, bytes]:
    """Every file of the pack, as the manifest says that it was."""
    try:
        with zipfile.ZipFile(path) as pack:
            names = pack.namelist()
            if len(set(names)) < len(names):
                raise Refused("a name stands in it twice")
            if sum(info.file_size for info in pack.infolist()) > LARGEST_FILES:
                raise Refused(f"unpacked it would be larger than {LARGEST_FILES >> 20} MiB")
            if unknown := sorted(set(names) - {*FILES, "MANIFEST.json"}):
                raise Refused(f"{unknown[0]} is no file of a pack")
            files = {name: pack.read(name) for name in names}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    if "MANIFEST.json" not in files:
        raise Refused("it has no MANIFEST.json")
    listed = read_json(files.pop("MANIFEST.json"), "MANIFEST.json")["files"]
    for name in FILES:
        if name not in files or name not in listed:
            raise Refused(f"{name} is {'missing' if name not in files else 'not in the manifest'}")
        if hashlib.sha256(files[name]).hexdigest() != listed[name]:
            raise Refused(f"{name} was changed: its SHA-256 is not the manifest's")
    return files


def read_json(content: bytes, name: str) -> Any:
    """A file of JSON, written in the one way in which equal values give equal bytes."""
    text = content.decode(errors="surrogateescape")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(f"{name} is no JSON") from None
    if write_json(value) != text:
        raise Refused(f"{name} is not written as a pack writes it: a key twice, or other blanks")
    return value


def write_json(value: Any) -> str:
    """Sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def check_chain(text: bytes) -> tuple[list[Row], list[str]]:
    """The ledger's rows and hashes; each hash seals its row and all before."""
    rows: list[Row] = []
    hashes: list[str] = []
    before = START
    *lines, rest = text.decode(errors="surrogateescape").split("\n")
    if rest:
        raise Refused("the ledger does not end with a whole row")
    for number, line in enumerate(lines, start=1):
        try:
            held = json.loads(line)
            row = {name: value for name, value in held.items() if name != "hash"}
            told = held["hash"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Refused(f"row {number} of the ledger cannot be read") from None
        before = hashlib.sha256(f"{before}{write_json(row)}".encode(errors="surrogateescape")).hexdigest()
        if before != told or row.get("seq") != number or write_json(held) != line:
            raise Refused(f"row {number} of the ledger is the first that is not as it was written")
        rows.append(row)
        hashes.append(told)
    if not rows:
        raise Refused("the ledger is empty")
    return rows, hashes


def find_decision(rows: list[Row], decision: Row) -> int:
    """Number of the ledger's row that seals this decision, which no rollback undid."""
    digest = hashlib.sha256(write_json(decision).encode(errors="surrogateescape")).hexdigest()
    undone = {number for row in rows if row["event"] == "rolled back" for number in row.get("decisions", ())}
    standing = [row for row in rows if row["event"] == "decided" and row["decision"] not in undone]
    if not standing or standing[-1]["report_sha256"] != digest:
        raise Refused("decision.json is not the decision that the ledger says is in force")
    row = standing[-1]
    verdicts = {name: one["verdict"] for name, one in decision["findings"].items()}
    if (row["verdict"], row["verdicts"]) != (decision["verdict"], verdicts):
        raise Refused("the ledger's row of the decision tells other verdicts than the decision")
    return int(row["seq"])


def settings_at(frozen: list[Row], at: str) -> Row:
    """The frozen settings by which a decision was made: the last that were stored before it."""
    held = [one for one in frozen if datetime.fromisoformat(one["at"]) <= datetime.fromisoformat(at)]
    if not held:
        raise Refused("settings.json holds none from before the decision")
    settings: Row = held[-1]["settings"]
    return settings


def target_of(settings: Row, finding: str) -> float:
    """The AUC that a finding must reach."""
    target = settings["stop.target"]
    return float(target[finding] if isinstance(target, dict) else target)


def check_settings(decision: Row, settings: Row) -> None:
    """The decision seals the settings by which it was made; one of an older release does not."""
    sealed = {
        name: value for name, value in (decision.get("settings") or {}).items() if name != "stop.budget"
    }
    if sealed and sealed != settings:
        names = sorted(name for name in {*sealed, *settings} if sealed.get(name) != settings.get(name))
        raise Refused(f"settings.json is not what the decision was made by: {', '.join(names)}")
    if sorted(decision["findings"]) != sorted(settings["findings"]) or not decision["findings"]:
        raise Refused("the decision is of other findings than the settings")


def check_stop(decision: Row, settings: Row) -> None:
    """Whether STOP follows from the verdicts and the rule, or CONTINUE does."""
    rule, likely = settings["stop.rule"], settings["stop.evidence"] == "likely"
    verdicts = {name: one["verdict"] for name, one in decision["findings"].items()}
    under = list(verdicts) if isinstance(rule, str) else rule
    counts = ("CERTIFIED", "LIKELY REACHED") if likely else ("CERTIFIED",)
    still_open = [name for name in under if verdicts[name] not in counts]
    lost = all(verdicts[name] == "OUT OF REACH" for name in (under if rule == "mean" else still_open))
    if decision["verdict"] not in ("STOP", "CONTINUE"):
        raise Refused(f"there is no verdict {decision['verdict']!r}")
    if decision["verdict"] == "CONTINUE":
        if not still_open or lost:
            raise Refused(
                "by its verdicts and the stop rule the project ends, and the decision says CONTINUE"
            )
        return
    budget = (decision.get("settings") or {}).get("stop.budget")
    spent = budget is not None and decision["labels"]["total"] >= budget
    by_mean = rule == "mean" and likely and "CANNOT TELL" not in verdicts.values()
    if still_open and not (
        lost or spent or by_mean or decision["reason"].startswith("No image is left to ask")
    ):
        raise Refused(f"STOP does not follow: {still_open[0]} is {verdicts[still_open[0]]}")


def follow(rows: list[Row]) -> int:
    """Follow the ledger: each round is asked once, of images that nobody had answered, and read as people answered it.

    Rows that an older release wrote, and this one chained afterwards, are followed as to their shape only.

    Returns:
        Labels that were corrected after the certificate had read them.
    """
    chained_later = max((k for k, row in enumerate(rows) if row["event"] == "rebuilt"), default=-1)
    labels: Labels = {}
    bets: dict[int, Any] = {}
    random: dict[int, list[str]] = {}
    read: dict[tuple[int, str], list[float | None]] = {}
    read_in: dict[tuple[str, str], int] = {}
    corrected, asking = 0, 0
    for k, row in enumerate(rows):
        event = row["event"]
        if event == "asked":
            number = row["round"]
            if number != asking and number <= max(bets, default=0):
                raise Refused(f"row {row['seq']}: round {number} is asked a second time")
            if bets.setdefault(number, row.get("bets")) != row.get("bets"):
                raise Refused(f"row {row['seq']}: round {number} has two bets")
            if k > chained_later and labels.get(row.get("item", "")):
                raise Refused(f"row {row['seq']}: the image was labelled before it was scored")
            if row["stream"] == "random":
                random.setdefault(number, []).append(row["item"])
            asking = number
            continue
        asking = 0
        if event in ("labelled", "relabelled", "skipped"):
            labels.setdefault(row.get("item", ""), {})[row["annotation"]] = row
        elif event == "withdrawn":
            labels.get(row.get("item", ""), {}).pop(row["annotation"], None)
        elif event == "gone":
            labels.pop(row.get("item", ""), None)
        elif event == "read":
            key, y = (row["round"], row["finding"]), row["y"]
            before, items = read.get(key, []), random.get(row["round"], [])
            if not len(before) <= len(y) <= len(items):
                raise Refused(f"row {row['seq']}: {len(y)} labels were read of {len(items)} images")
            for place, (value, item) in enumerate(zip(y, items, strict=False)):
                if place < len(before):
                    if value == before[place]:
                        continue
                    corrected += 1
                elsewhere = read_in.setdefault((row["finding"], item), row["round"]) != row["round"]
                if value == majority(labels.get(item, {}), row["finding"]) or (value is None and elsewhere):
                    continue
                if k > chained_later:
                    raise Refused(
                        f"row {row['seq']}: the certificate read {value} of image {place + 1} of round {row['round']}, and people said "
                        "otherwise"
                    )
            read[key] = y
    return corrected


def majority(given: dict[int, Row], finding: str) -> float | None:
    """What more people say of an image, each by the latest label; starred labels decide alone. None for a tie, or nobody."""
    latest: dict[str, Row] = {}
    starred: dict[str, Row] = {}
    for row in sorted(
        given.values(), key=lambda one: (datetime.fromisoformat(one["updated_at"]), one["annotation"])
    ):
        latest[row["annotator"]] = row
        if row.get("ground_truth") and not row["skipped"] and row.get("problem") is None:
            starred[row["annotator"]] = row
    deciding = starred or {
        who: row for who, row in latest.items() if not row["skipped"] and row.get("problem") is None
    }
    said = [row["answers"].get(finding) for row in deciding.values()]
    yes, no = said.count(1.0), said.count(0.0)
    return None if yes == no else float(yes > no)


def asked_of(rows: list[Row], finding: str) -> list[tuple[list[float | None], list[float], bool]]:
    """Labels, scores when asked and bet of every round's random images, as the certificate has read them."""
    scores: dict[int, list[float | None]] = {}
    bets: dict[int, bool] = {}
    read: dict[int, list[float | None]] = {}
    for row in rows:
        if row["event"] == "asked":
            bets[row["round"]] = bool(row.get("bets", {}).get(finding, False))
            scores.setdefault(row["round"], [])
            if row["stream"] == "random":
                scores[row["round"]].append(row.get("scores", {}).get(finding))
        elif row["event"] == "read" and row["finding"] == finding:
            read[row["round"]] = row["y"]
    asked: list[tuple[list[float | None], list[float], bool]] = []
    for number in sorted(scores):
        y = read.get(number, [])
        held = [score for score in scores[number][: len(y)] if score is not None]
        if y and len(held) == len(y):
            asked.append((y, held, bets[number]))
    return asked


def weigh(asked: list[tuple[list[float | None], list[float], bool]], tested: float) -> Row:
    """The certificate's evidence against "AUC is at most tested": largest log capital, and what it rests on."""
    capital = [math.log(share) for share in SHARES]
    largest, n_positive, n_negative, wins, pairs = 0.0, 0, 0, 0.0, 0
    for number, (y, scores, bet) in enumerate(asked):
        right, of = _in_order(
            y, scores, [i for i, v in enumerate(y) if v == 1], [i for i, v in enumerate(y) if v == 0]
        )
        wins, pairs = wins + right, pairs + of
        for positives, negatives in _blocks(y, ended=number < len(asked) - 1) if bet else ():
            right, of = _in_order(y, scores, positives, negatives)
            gain = (right / of - tested) / tested
            for g, stake in enumerate(BETS):
                capital[g] += math.log1p(min(LARGEST_BET, 2 * stake * of / (of + 2)) * gain)
            top = max(capital)
            largest = max(largest, top + math.log(sum(math.exp(c - top) for c in capital)))
            n_positive, n_negative = n_positive + len(positives), n_negative + len(negatives)
    return {
        "tested": tested,
        "log_e": largest,
        "positives": n_positive,
        "negatives": n_negative,
        "auc_when_asked": wins / pairs if pairs else None,
        "images": sum(v is not None for y, _, _ in asked for v in y),
    }


def share_alpha(log_e: dict[str, float], alpha: float, correction: str) -> dict[str, tuple[float, bool]]:
    """Threshold of each finding and whether it is passed; Holm's step-down where that is the correction."""
    passed: dict[str, float] = {}
    threshold = math.log((1 if correction == "none" else len(log_e)) / alpha)
    while added := [name for name, held in log_e.items() if name not in passed and held >= threshold]:
        passed |= dict.fromkeys(added, threshold)
        if correction == "holm" and len(passed) < len(log_e):
            threshold = math.log((len(log_e) - len(passed)) / alpha)
    return {name: (passed.get(name, threshold), name in passed) for name in log_e}


def _in_order(
    y: list[float | None], scores: list[float], positives: list[int], negatives: list[int]
) -> tuple[float, int]:
    """Pairs in the right order, ties for a half, and pairs."""
    right = sum(
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]) for i in positives for j in negatives
    )
    return float(right), len(positives) * len(negatives)


def _blocks(y: list[float | None], *, ended: bool) -> list[tuple[list[int], list[int]]]:
    """A round's images in blocks that share none, by where the labels stand alone."""
    blocks: list[tuple[list[int], list[int]]] = []
    begin = 0
    for end in range(1, len(y) + 1):
        if end - begin < SITTING and not (ended and end == len(y)):
            continue
        positives = [i for i in range(begin, end) if y[i] == 1]
        negatives = [i for i in range(begin, end) if y[i] == 0]
        n = min(len(positives), len(negatives))
        if n:
            blocks += zip(_share_out(positives, n), _share_out(negatives, n), strict=True)
            begin = end
    return blocks


def _share_out(images: list[int], n: int) -> list[list[int]]:
    few, extra = divmod(len(images), n)
    begins = [k * few + min(k, extra) for k in range(n + 1)]
    return [images[a:b] for a, b in pairwise(begins)]


def say(told: Row) -> str:
    """What was recomputed, for people."""
    lines = [
        f"{told['rows']:,} rows of the ledger, each as it was written; the last hash is {told['head']}.",
        f"Decision of {told['decided'][:16].replace('T', ' ')}: {told['verdict']}. {told['reason']}",
    ]
    for name, one in told["findings"].items():
        auc = "none" if one["auc_when_asked"] is None else f"{one['auc_when_asked']:.3f}"
        lines.append(
            f"{name}: {one['verdict']}. Evidence {one['log_e']:.2f} of {one['threshold']:.2f} that AUC is above {one['tested']:.3f}, on "
            f"{one['positives']} positives and {one['negatives']} negatives; AUC of the scores when asked {auc}."
        )
    if told["corrected"]:
        lines.append(f"{told['corrected']} labels were corrected after the certificate had read them.")
    lines.append(
        "Recomputed from the ledger alone. Believed: when rows were written, that the random stream is random, and the forecast behind "
        "every verdict but CERTIFIED. Nothing in the ledger vouches for report.html, MODEL_CARD.md, probe.safetensors and versions.json: "
        "compare the hash of the whole pack, or the last hash above, with one that was kept elsewhere."
    )
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python verify.py evidence.zip")
    try:
        print(say(check_pack(sys.argv[1])))
    except Refused as refused:
        print(f"REFUSED: {refused}.", file=sys.stderr)
        sys.exit(2)
