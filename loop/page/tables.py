"""The figures of the page as tables of plain values, every column explained with its unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from loop.page.figures import Page

Row = dict[str, Any]

TABLES: Mapping[str, str] = {
    "page": "The project, one row.",
    "findings": "One row a finding.",
    "what_if": "What each decision would take: one row a decision and finding, and one without a finding for the project.",
    "people": "One row an annotator.",
    "times": "How long readings take, one row a finding.",
    "days": "Images first labelled on each day of the last eight weeks, up to yesterday, UTC.",
    "agreement": "How well annotators agree, one row a finding that was read twice.",
    "kappas": "Agreement of each two annotators, one row a pair and finding.",
    "readers": "Agreement of each annotator with the others, one row an annotator and finding.",
    "disputed": "Images that got both answers, one row an image and finding.",
    "score": "Earlier forecasts held against the labels that came after them, one row a horizon.",
    "history": "One row a decision, oldest first.",
    "versions": "One row a batch: which probe and which encoder chose it.",
    "curve_points": "The measured points of the learning curves.",
    "calibration": "What probabilities are worth on random images of patients new to the probe, one row a finding.",
    "reliability": "Probability and share of positives, one row a finding and fifth of the random images.",
}
"""What each table holds."""

COLUMNS: Mapping[str, str] = {
    "agreed": "images on which the annotator agreed with the others",
    "alpha": "error rate of the certificates, a probability",
    "annotator": "Label Studio's user id",
    "asked": "images of the batch that followed",
    "at": "time, UTC",
    "auc": "area under the ROC curve, .5 to 1",
    "auc_high": "upper end of the interval of the AUC at the page's level",
    "auc_low": "lower end of the interval of the AUC at the page's level",
    "aucs": "AUC of the finding then",
    "batch_size": "images of the present batch",
    "brier_base": "Brier score of the share of positives, said of every image",
    "budget": "images that may be labelled; empty = no limit",
    "by_majority": "why the majority decides although Dawid and Skene were asked for",
    "cannot_tell": "images that nobody could tell",
    "ceiling.above": "whether the target lies above the best AUC that these labels allow",
    "ceiling.highest": "largest best AUC over the readers",
    "ceiling.images": "images behind it",
    "ceiling.lowest": "smallest best AUC over the readers",
    "ceiling.random_only": "whether it rests on random images only",
    "ceiling.target": "AUC to reach",
    "counts": "whether the stop rule asks for the finding",
    "currency": "of all money",
    "date": "day, UTC",
    "date_high": "latest day at the present pace; empty = no end in sight, or too little history",
    "date_low": "earliest day at the present pace",
    "decided_at": "time of the last decision, UTC",
    "decided_labels": "images labelled when it was made",
    "difference": "AUC that the labels are ahead of as many random ones",
    "difference_se": "standard error of that, AUC",
    "disagreed": "images on which not all said the same",
    "encoder": "the frozen model behind the embeddings",
    "enough": "whether there is enough history for a date",
    "error": "seen less promised AUC, mean",
    "error_se": "standard error of that",
    "even": "images within which the chance is one half",
    "evidence": "what ends the project: likely or certified",
    "finding": "its name; empty = the project",
    "findings": "verdict on the finding then",
    "first": "first annotator of the pair, Label Studio's user id",
    "headline.kind": "which of the page's headlines",
    "headline.sentence": "the verdict in one sentence",
    "headline.sure": "how sure that is",
    "headline.todo": "what to do next",
    "headline.verdict": "the verdict in a few words",
    "held": "forecasts whose interval held",
    "horizon": "times the labels at the time of the forecast; 1 = at once",
    "high": "upper end; empty = no limit visible",
    "hours_high": "hours of work, upper end",
    "hours_low": "hours of work, lower end",
    "images": "number of images",
    "item": "image id: the SHA-256 of its content, shortened",
    "labels": "images labelled",
    "last_at": "time of the annotator's last label or change, UTC",
    "left": "images that can still be labelled, by archive and budget",
    "level": "probability that an interval holds the value",
    "low": "lower end",
    "mean": "middle",
    "log_e": "natural logarithm of the certificate's capital",
    "money_high": "cost in the currency, upper end",
    "money_low": "cost in the currency, lower end",
    "n": "labels of the finding",
    "told.n": "images",
    "n_problems": "images that could not be used",
    "n_unreadable": "annotations that could not be read",
    "name": "the decision in a few words",
    "negatives": "images known not to have the finding",
    "no": "voices that say it is absent",
    "observed": "share of positives",
    "offset": "what mends a probability: its logit l becomes offset + scale l",
    "outstanding": "images of the present batch that nobody answered",
    "p_reached": "probability that the AUC has reached the target now",
    "pace.first": "first day of the pace, UTC",
    "per_week": "images labelled a week, mean; empty = too little history",
    "pool_left": "images that can still be asked",
    "positives": "images known to have the finding; of a proof, random ones",
    "predicted": "mean probability",
    "project": "its name",
    "proof.needed": "log capital that certifies",
    "random_labels": "images labelled of the random stream",
    "reason": "why the verdict, in words",
    "remedy": "what to do about it, in words",
    "round": "number of the batch",
    "rule": "findings that must get there: all, their mean, or named ones",
    "said": "the same in words",
    "saving.n": "random and active labels behind it",
    "saving.high": "labels that active learning has saved, upper end; empty = no limit visible",
    "saving.low": "labels that active learning has saved, lower end; below 0 = lost",
    "saved": "labels that active learning has saved; empty = the curves do not say",
    "scored": "forecasts checked",
    "scale": "what mends a probability: its logit l becomes offset + scale l",
    "second": "second annotator of the pair, Label Studio's user id",
    "seconds": "median seconds an image was open, breaks cut at ten minutes",
    "seconds_absent": "median seconds of readings that say it is absent",
    "seconds_first": "median seconds in the first half of the annotator's labels",
    "seconds_last": "median seconds in the second half",
    "seconds_present": "median seconds of readings that say it is present",
    "absent": "readings with a time that say it is absent",
    "present": "readings with a time that say it is present",
    "proof.share": "part of the way to the certificate, 0 to 1",
    "shows": "1 = it saved labels, -1 = it cost labels, 0 = nothing that can be shown",
    "skipped": "images skipped",
    "slowest": "the finding that takes longest",
    "target": "AUC to reach",
    "tested": "AUC that the certificate tests: target less tolerance",
    "ties": "images that got as many yes as no",
    "pace.work.high_s": "mean seconds of work behind a labelled image, all readers together, upper end of the 80 % interval",
    "pace.work.low_s": "mean seconds of work behind a labelled image, lower end",
    "pace.work.median_s": "median seconds of a reading, breaks cut at ten minutes",
    "pace.work.readings": "readings with a time",
    "today": "day on which the future begins, UTC",
    "tolerance": "AUC below the target that the certificate allows",
    "undone": "whether a rollback took it back",
    "unknown": "images answered without a yes or no to the finding",
    "value": "best guess",
    "verdict": "where the finding, or the project, stands",
    "version": "name of the batch in Label Studio",
    "yes": "voices that say it is present",
}
"""What a column holds, and in which unit; of nested figures, by their last name or by the whole."""

NESTED: Mapping[str, str] = {
    "alpha": "Krippendorff's alpha",
    "at_4x": "AUC after four times the labels",
    "ceiling": "of the best AUC that these labels allow",
    "ceiling.auc": "AUC of an annotator against the others",
    "ceiling.labels": "best AUC that these labels allow",
    "kappa": "Cohen's kappa",
    "needed": "images until the target, or the proof where one is asked for",
    "now": "AUC now",
    "proof": "of the certificate",
    "proof.price": "images until the proof",
    "told": "of the probabilities, on random images",
    "told.brier": "Brier score: mean squared error of the probabilities",
    "told.intercept": "calibration intercept: 0 = as many positives as predicted, above 0 = more",
    "told.slope": "calibration slope: 1 = right, below 1 = probabilities too extreme",
    "share": "share of the images on which the annotator agreed",
}
"""What nested figures are about."""


def tables_of(page: Page) -> dict[str, list[Row]]:
    """Every figure of the page by table, with the names of the JSON; nested figures have dotted names, such as ``now.low``."""
    told = page.to_json()
    score, saving = told.pop("score") or {}, told.pop("saving") or {}
    pace, agreement = dict(told["pace"]), told["agreement"]
    per_day = pace.pop("per_day")
    first = page.pace.first
    tables = {
        "page": [
            {name: value for name, value in told.items() if not isinstance(value, list | dict)}
            | {"headline": told["headline"], "pace": pace, "saving": saving}
        ],
        "findings": told["findings"],
        "what_if": [
            {
                "name": one["name"],
                "finding": finding,
                "slowest": "" if finding else one["slowest"],
                "needed": needed,
            }
            for one in told["what_if"]
            for finding, needed in {"": one["needed"], **one["findings"]}.items()
        ],
        "people": told["people"],
        "times": told["times"],
        "days": [
            {"date": str(first + timedelta(k)), "images": n}
            for k, n in enumerate(per_day)
            if first is not None
        ],
        "agreement": [
            {"finding": name} | {key: value for key, value in row.items() if not isinstance(value, list)}
            for name, row in agreement.items()
        ],
        "kappas": [{"finding": name} | pair for name, row in agreement.items() for pair in row["kappas"]],
        "readers": [{"finding": name} | one for name, row in agreement.items() for one in row["annotators"]],
        "disputed": told["disputed"],
        "score": score.get("horizons", []),
        "history": told["history"],
        "versions": told["versions"],
        "calibration": [
            {"finding": name} | one | {"told": {k: v for k, v in (one["told"] or {}).items() if k != "curve"}}
            for name, one in told["reliability"].items()
        ],
        "reliability": [
            {"finding": name} | one
            for name, row in told["reliability"].items()
            for one in (row["told"] or {}).get("curve", ())
        ],
        "curve_points": [
            dict(zip(("finding", "n", "auc", "auc_low", "auc_high"), (name, *point), strict=True))
            for name, points in told["curve_points"].items()
            for point in points
        ],
    }
    return {name: _level(rows) for name, rows in tables.items()}


def explain(column: str) -> str:
    """What a column holds, and in which unit; of nested figures both, e.g. ``needed.low``.

    Raises:
        KeyError: Nobody explained it.
    """
    if column in COLUMNS:
        return COLUMNS[column]
    if column in NESTED:  # known of no row yet
        return NESTED[column]
    above, _, own = column.rpartition(".")
    if (head := column.partition(".")[0]) in ("aucs", "findings"):  # behind it stands the name of a finding
        return COLUMNS[head]
    return f"{NESTED[above]}: {COLUMNS[own]}" if above in NESTED else COLUMNS[own]


def _level(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows with the same columns, nested ones under dotted names."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    # a figure that is missing in one row and nested in another is nested in all
    held = [name for name in columns if not any(other.startswith(f"{name}.") for other in columns)]
    return [{name: row.get(name) for name in held} for row in flat]


def _flat(row: Mapping[str, Any], above: str = "") -> Row:
    flat: Row = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat
