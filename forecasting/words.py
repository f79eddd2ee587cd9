"""How numbers are said: one place, so that sentences, tables and pictures agree."""

from __future__ import annotations

import math

NO_LIMIT = "no limit visible"


def auc_text(auc: float, digits: int = 3) -> str:
    """`.871`; `1.000` keeps its one."""
    return f"{auc:.{digits}f}".removeprefix("0")


def gain_text(gain: float) -> str:
    """`about +.004`; `less than +.001` where three digits would show nothing."""
    return f"about +{auc_text(gain)}" if gain >= 0.001 else "less than +.001"


def signed_text(difference: float) -> str:
    """`-.012`, `+.004`."""
    return f"{'-' if difference < 0 else '+'}{auc_text(abs(difference))}"


def interval_text(low: float, high: float, level: float) -> str:
    """`90 %: .83 to .90`."""
    return f"{level_text(level)}: {auc_text(low, 2)} to {auc_text(high, 2)}"


def level_text(level: float) -> str:
    """`90 %`."""
    return f"{100 * level:.3g} %"


def probability_text(p: float) -> str:
    """`.41`, with a third digit near 0 and 1; `below .001` and `above .999` instead of certainty."""
    if p < 0.001:
        return "below .001"
    if p > 0.999:
        return "above .999"
    return auc_text(p, 2 if 0.1 <= p <= 0.9 else 3)


def target_text(auc: float) -> str:
    """`.85`, `.875`: an AUC that somebody chose, without a digit that says nothing."""
    return auc_text(auc).removesuffix("0")


def count_text(number: float) -> str:
    """`1,200`: two significant digits, for numbers that are estimates; never less than 1 for more than 0."""
    if math.isinf(number):
        return NO_LIMIT
    if number <= 0:
        return "0"
    number = max(1.0, number)
    step = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return f"{round(number / step) * step:,.0f}"


def range_text(low: float, high: float) -> str:
    """`90 to 520`, `at least 90, no upper limit visible`, `not bounded yet` (0 to no limit) or `no limit visible`."""
    if math.isinf(low):
        return NO_LIMIT
    if math.isinf(high) and low < 1:
        return "not bounded yet"
    if math.isinf(high):
        return f"at least {count_text(low)}, no upper limit visible"
    low_text, high_text = count_text(low), count_text(high)
    return low_text if low_text == high_text else f"{low_text} to {high_text}"


def counted(number: float, one: str, many: str | None = None) -> str:
    """`1 positive`, `12 positives`; an exact count."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
