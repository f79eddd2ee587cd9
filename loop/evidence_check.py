"""Check an evidence pack with nothing but Python: no package is needed, and the file can be read in ten minutes.

    python verify.py evidence.zip

Recomputed from the ledger alone: that no row was changed, the certificate's evidence of every finding, the thresholds, and whether
CERTIFIED may be said. Believed: that scores and labels were written down when the ledger says; that the random stream was drawn at
random; the forecast behind every other verdict. The formulas are those of the README, written a second time on purpose.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import zipfile
from datetime import datetime
from itertools import pairwise
from typing import Any

Row = dict[str, Any]

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
    files = read_files(path)
    rows, hashes = check_chain(files["ledger.jsonl"])
    decision = json.loads(files["decision.json"])
    seq = find_decision(rows, decision)
    settings = settings_at(json.loads(files["settings.json"]), decision["at"])
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
        ):
            if not math.isclose(ours, theirs, rel_tol=CLOSE, abs_tol=CLOSE):
                raise Refused(
                    f"{name}: its {what} is {ours:.6g} by the ledger, and the decision says {theirs:.6g}"
                )
        if (said["verdict"] == "CERTIFIED") != certified:
            raise Refused(
                f"{name}: the ledger's evidence {'certifies' if certified else 'does not certify'} it, the decision says {said['verdict']}"
            )
    return {
        "rows": len(rows),
        "head": hashes[-1],
        "decided": decision["at"],
        "verdict": decision["verdict"],
        "findings": evidence,
    }


def read_files(path: str) -> dict[str, bytes]:
    """Every file of the pack, as the manifest says that it was."""
    try:
        with zipfile.ZipFile(path) as pack:
            if pack.testzip() is not None:
                raise Refused(f"{pack.testzip()} is damaged")
            if len(set(pack.namelist())) < len(pack.namelist()):
                raise Refused("a name stands in it twice")
            files = {name: pack.read(name) for name in pack.namelist()}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    try:
        manifest = json.loads(files.pop("MANIFEST.json"))
        listed = dict(manifest["files"])
    except (KeyError, ValueError, TypeError):
        raise Refused("it has no MANIFEST.json") from None
    for name in sorted({*listed, *files}):
        if name not in files or name not in listed:
            raise Refused(f"{name} is {'missing' if name not in files else 'not in the manifest'}")
        if hashlib.sha256(files[name]).hexdigest() != listed[name]:
            raise Refused(f"{name} was changed: its SHA-256 is not the manifest's")
    return files


def check_chain(text: bytes) -> tuple[list[Row], list[str]]:
    """The ledger's rows and hashes; each hash seals its row and all before."""
    rows: list[Row] = []
    hashes: list[str] = []
    before = START
    for number, line in enumerate(text.decode(errors="surrogateescape").split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
            told = row.pop("hash")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused(f"row {number} of the ledger cannot be read") from None
        written = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        before = hashlib.sha256(f"{before}{written}".encode(errors="surrogateescape")).hexdigest()
        if before != told or row.get("seq") != number:
            raise Refused(f"row {number} of the ledger is the first that is not as it was written")
        rows.append(row)
        hashes.append(told)
    if not rows:
        raise Refused("the ledger is empty")
    return rows, hashes


def find_decision(rows: list[Row], decision: Row) -> int:
    """Number of the ledger's row that seals this decision, which no rollback undid."""
    text = json.dumps(decision, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    undone = {number for row in rows if row["event"] == "rolled back" for number in row.get("decisions", ())}
    standing = [row for row in rows if row["event"] == "decided" and row["decision"] not in undone]
    if not standing or standing[-1]["report_sha256"] != digest:
        raise Refused("decision.json is not the decision that the ledger says is in force")
    return int(standing[-1]["seq"])


def settings_at(frozen: list[Row], at: str) -> Row:
    """The frozen settings by which a decision was made: the last that were stored before it."""
    held = [one for one in frozen if datetime.fromisoformat(one["at"]) <= datetime.fromisoformat(at)]
    if not held:
        raise Refused("settings.json holds none from before the decision")
    settings: Row = held[-1]["settings"]
    return settings


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
        f"Decision of {told['decided'][:16].replace('T', ' ')}: {told['verdict']}.",
    ]
    for name, one in told["findings"].items():
        auc = "none" if one["auc_when_asked"] is None else f"{one['auc_when_asked']:.3f}"
        lines.append(
            f"{name}: {one['verdict']}. Evidence {one['log_e']:.2f} of {one['threshold']:.2f} that AUC is above {one['tested']:.3f}, on "
            f"{one['positives']} positives and {one['negatives']} negatives; AUC of the scores when asked {auc}."
        )
    lines.append(
        "Recomputed from the ledger alone. Believed: when rows were written, that the random stream is random, and the forecast behind "
        "every verdict but CERTIFIED."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python verify.py evidence.zip")
    try:
        print(say(check_pack(sys.argv[1])))
    except Refused as refused:
        print(f"REFUSED: {refused}.", file=sys.stderr)
        sys.exit(2)
