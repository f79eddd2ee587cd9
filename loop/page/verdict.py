"""The verdict in one sentence that whoever pays for the labels understands, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forecasting.words import auc_text, count_text, counted, listed, target_text
from loop.page.pace import Needed
from loop.page.what_if import PROOF, WhatIf
from loop.settings import Settings
from loop.step_findings import FindingReport
from loop.step_report import StepReport

WORDS = {
    "CANNOT TELL": "Too early to tell",
    "KEEP LABELLING": "Keep labelling",
    "LIKELY REACHED": "Likely reached",
    "CERTIFIED": "Certified",
    "OUT OF REACH": "Out of reach",
}
"""The verdicts as the page says them."""


@dataclass(frozen=True, slots=True)
class Headline:
    """What a lead reads first.

    Attributes:
        kind: ``early``, ``go-on``, ``reached``, ``certified``, ``out-of-reach`` or ``ended``.
        verdict: Two or three words: what to do.
        sentence: Why, in one sentence.
        todo: What to do next.
        sure: How sure that is.
    """

    kind: str
    verdict: str
    sentence: str
    todo: str
    sure: str


FORECAST = (
    "This is a forecast, not a proof. Replayed on finished data sets, such forecasts were wrong in 1 to 5 of 100 cases. "
    "Ask for the proof where patients depend on it."
)


def say_headline(
    last: StepReport | None, what_if: Sequence[WhatIf], left: int, settings: Settings
) -> Headline:
    """Say the project's verdict.

    Args:
        last: The last decision; None before the first.
        what_if: What it takes until the last finding that counts is there, as decided and otherwise.
        left: Images that can still be labelled.
        settings: For the rule, the kind of evidence, the tolerance and the error rate.
    """
    if last is None or not last.findings:
        return Headline(
            "early",
            "Label the first batch",
            "Nothing has been judged yet, so nothing is known about the model.",
            "Label the first batch in Label Studio, then run loop step.",
            "Nothing can be said before there are labels.",
        )
    stop = settings.stop
    rule = tuple(last.findings) if isinstance(stop.rule, str) else tuple(stop.rule)
    under = {name: last.findings[name] for name in rule if name in last.findings}
    counts = ("CERTIFIED",) if stop.evidence == "certified" else ("CERTIFIED", "LIKELY REACHED")
    still_open = {name: told for name, told in under.items() if told.verdict not in counts}
    lost = [name for name, told in still_open.items() if told.verdict == "OUT OF REACH"]
    if last.verdict == "STOP":
        if not still_open or (stop.rule == "mean" and len(lost) < len(still_open)):
            return _reached(last, under, what_if, left, settings)
        if len(lost) == len(still_open):
            return _out_of_reach(last, under, lost)
        return _ended(last, still_open, settings)
    told = _go_on(last, under, still_open, lost, what_if[0], settings.forecast.from_labels)
    return replace(told, sure=f"{told.sure}{_say_left(what_if[0].needed, left)}")


def _say_left(needed: Needed | None, left: int) -> str:
    """A sentence where there may be too few images, or too small a budget."""
    if needed is None or (needed.high is not None and needed.high <= left):
        return ""
    surely = needed.low is None or needed.low > left
    return (
        f" Only {counted(left, 'more image')} can be labelled, by archive and budget: "
        f"{'too few' if surely and needed.low is not None else 'perhaps too few'}."
    )


def needed_text(needed: Needed) -> str:
    """`about 90 to 520 more images`, `at least 90 more images`."""
    if needed.low is None:
        return "more images than can be foreseen"
    low = count_text(needed.low)
    if needed.high is None:
        return f"at least {low} more images, with no upper limit visible"
    high = count_text(needed.high)
    if needed.low < 1:
        return f"up to {high} more images"
    return f"about {low} more images" if low == high else f"about {low} to {high} more images"


def _reached(
    last: StepReport,
    under: dict[str, FindingReport],
    what_if: Sequence[WhatIf],
    left: int,
    settings: Settings,
) -> Headline:
    certified = [name for name, told in under.items() if told.verdict == "CERTIFIED"]
    if len(certified) == len(under):
        tested = sorted({told.evidence.tested for told in under.values() if told.evidence})
        less = f"target less the tolerance of {target_text(settings.stop.tolerance)}"
        floor = (
            f"an AUC above {target_text(tested[0])}, the {less}"
            if len(tested) == 1
            else f"an AUC above its {less}"
        )
        which = listed(certified) if len(certified) < 4 else f"each of the {len(certified)} findings"
        return Headline(
            "certified",
            "Stop labelling: it is certified",
            f"Proven for {which}: {floor}, on randomly drawn images that were scored before anybody labelled them.",
            f"{last.remedy} The proof is of the best of the models that were tried; the one that you release wants a test of its own.",
            f"The chance that {_wrong(len(under), settings)} is at most {100 * settings.stop.alpha:g} in 100, however often one has looked.",
        )
    which = listed(list(under)) if len(under) < 4 else f"all {len(under)} findings"
    also = f"; {listed(certified)} {'is' if len(certified) == 1 else 'are'} certified" if certified else ""
    return Headline(
        "reached",
        "You can stop labelling",
        f"The model has very likely reached the target for {which}{also}."
        if settings.stop.rule != "mean"
        else f"The model has very likely reached the mean target over {which}.",
        last.remedy,
        f"{FORECAST}{_say_proof(what_if, left)}",
    )


def _say_proof(what_if: Sequence[WhatIf], left: int) -> str:
    """What the proof would still take; empty where nobody can say."""
    proof = next((one.needed for one in what_if if one.name == PROOF), None)
    if proof is None or proof.high is None or proof.high == 0:
        return ""
    by = f", by {proof.date_high.day} {proof.date_high:%b %Y} at the latest" if proof.date_high else ""
    how = f' It takes {needed_text(proof)}{by}: set [stop] evidence = "certified" and go on.'
    return f"{how}{_say_left(proof, left)}"


def _wrong(n: int, settings: Settings) -> str:
    """What the error rate is of."""
    alone = settings.stop.correction == "none" and n > 1
    return (
        "the certificate of a finding is wrong, each on its own,"
        if alone
        else "any such certificate is wrong"
    )


def _out_of_reach(last: StepReport, under: dict[str, FindingReport], lost: list[str]) -> Headline:
    rest = len(under) - len(lost)
    also = (
        f" The other {counted(rest, 'finding')} that count{'s' if rest == 1 else ''} reached the target."
        if rest
        else ""
    )
    targets = sorted({under[name].target for name in lost})
    goal = f"an AUC of {target_text(targets[0])}" if len(targets) == 1 else "their targets"
    return Headline(
        "out-of-reach",
        "Stop: more labels will not help",
        f"With this image encoder {listed(lost)} {'is' if len(lost) == 1 else 'are'} very unlikely to get to {goal}, however many more "
        f"images are labelled.{also}",
        f"{last.remedy} Labels without end would bring {_plateaus(under, lost)}.",
        "This is a forecast, not a proof. Replayed on finished data sets, such forecasts were rarely wrong.",
    )


def _plateaus(under: dict[str, FindingReport], lost: list[str]) -> str:
    """`Effusion to .71 to .88, Mass to .65 to .80`, three at most."""
    told = [(name, one.plateau) for name in lost[:3] if (one := under[name].forecast)]
    return ", ".join(
        f"{name} to an AUC between {auc_text(p.low, 2)} and {auc_text(p.high, 2)}" for name, p in told
    )


def _ended(last: StepReport, still_open: dict[str, FindingReport], settings: Settings) -> Headline:
    budget = settings.stop.budget
    why = (
        f"The budget of {counted(budget, 'label')} is spent"
        if budget is not None and last.labels.total >= budget
        else "No image is left to ask"
    )
    missing = listed(list(still_open)) if len(still_open) < 4 else counted(len(still_open), "finding")
    verb = "is" if len(still_open) == 1 else "are"
    return Headline(
        "ended",
        "Labelling has ended, the target is open",
        f"{why}, and {missing} {verb} not known to have reached the target.",
        last.remedy,
        "See below what each finding would still take.",
    )


def _go_on(
    last: StepReport,
    under: dict[str, FindingReport],
    still_open: dict[str, FindingReport],
    lost: list[str],
    decided: WhatIf,
    from_labels: int,
) -> Headline:
    if all(told.forecast is None for told in still_open.values()):
        rare = min(still_open, key=lambda name: min(under[name].positives, under[name].negatives))
        fewest = min(under[rare].positives, under[rare].negatives)
        kind = "with" if under[rare].positives <= under[rare].negatives else "without"
        shown = counted(fewest, "image")
        few = (
            f": {rare} has {shown} {kind} it so far, and 5 are the least"
            if fewest < 5
            else f": forecasts begin at {from_labels}"
        )
        return Headline(
            "early",
            "Keep labelling: too early to tell",
            f"{counted(last.labels.total, 'label')} are not enough to judge{few}.",
            last.remedy,
            "Nobody could tell from so few labels; a number here would be a guess.",
        )
    needed, slowest = decided.needed, decided.slowest
    done = len(under) - len(still_open)
    so_far = (
        f"{done} of {len(under)} findings have reached the target; "
        if done
        else "The target is not reached yet; "
    )
    names = listed(list(still_open)) if len(still_open) < 4 else counted(len(still_open), "finding")
    verb = "take" if len(still_open) > 1 else "takes"
    if needed is not None and needed.high == 0:
        return Headline(
            "go-on",
            "Keep labelling a little",
            f"The target is probably reached for {names}, but that is not sure enough yet to stop.",
            last.remedy,
            f"Chance that it is reached now: {_chances(still_open, now=True)}; 97 in 100 are asked.",
        )
    bounded = needed is not None and needed.high is not None
    what = (
        f"{names} {verb} {needed_text(needed)}"
        if needed is not None and needed.low is not None and (bounded or needed.low >= 1)
        else f"how many more images {names} {verb} cannot be told yet"
    )
    if needed is not None and not bounded and needed.even:
        what += (
            f"; chances are even that about {count_text(needed.even)} are enough for {slowest}, the slowest"
        )
    if lost:
        what += f", but {listed(lost)} {'is' if len(lost) == 1 else 'are'} very unlikely to get there with this image encoder"
    return Headline(
        "go-on",
        "Keep labelling",
        f"{so_far}{what}.",
        last.remedy,
        "The range is an 80 % range of the forecast. In replays of finished data sets such ranges held in about 9 of 10 cases."
        if bounded
        else f"Not sure yet. The chance that more images get there at all, with this image encoder: {_chances(still_open)}.",
    )


def _chances(still_open: dict[str, FindingReport], now: bool = False) -> str:
    """`Effusion 58 in 100, Mass 77 in 100`, the least likely first, three at most."""
    told = [
        (ahead.p_reached if now else ahead.p_reachable, name)
        for name, one in still_open.items()
        if (ahead := one.forecast)
    ]
    return ", ".join(f"{name} {100 * p:.0f} in 100" for p, name in sorted(told)[:3])
