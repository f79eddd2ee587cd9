"""The figures of the lead's page for a monitoring system, in Prometheus' text format. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forecasting.stopping import Verdict
from forecasting.words import level_text
from loop.page.figures import Page

__all__ = ["CONTENT_TYPE", "write_metrics"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4  # every release of Prometheus reads it


def write_metrics(page: Page, seconds: float | None, failures: int, at: datetime) -> bytes:
    """Write what the page says now as metrics; what is not known is left out.

    Args:
        page: Its figures.
        seconds: That the last step took; None = nobody noted it.
        failures: Requests so far that could not be answered from the state.
        at: The time now, UTC.
    """
    return generate_latest(_Told(page, seconds, failures, at))


class _Told(Collector):
    def __init__(self, page: Page, seconds: float | None, failures: int, at: datetime) -> None:
        self._page, self._seconds, self._failures, self._at = page, seconds, failures, at

    def collect(self) -> Iterator[Metric]:
        page = self._page
        yield _gauge("labels", "Labelled images.", page.labels)
        yield _gauge("pending", "Images of the present batch that nobody has answered yet.", page.outstanding)
        yield from self._findings()
        if page.history:
            age_s = (self._at - page.history[-1].at).total_seconds()
            yield _gauge("last_step_age_seconds", "Seconds since the last decision.", age_s)
        if self._seconds is not None:
            yield _gauge("last_step_duration_seconds", "Seconds that the last step took.", self._seconds)
        errors = GaugeMetricFamily(
            "annotation_loop_errors", "Images and annotations that cannot be used.", labels=["kind"]
        )
        errors.add_metric(["image"], page.n_problems)
        errors.add_metric(["annotation"], page.n_unreadable)
        yield errors
        yield CounterMetricFamily(
            "annotation_loop_read_failures", "Requests that the state could not answer.", self._failures
        )

    def _findings(self) -> Iterator[Metric]:
        level = level_text(self._page.level)
        told = [(row.finding, row.now, row.p_reached) for row in self._page.findings if row.now is not None]
        yield _by_finding("auc", "AUC now.", [(name, now.mean) for name, now, _ in told])
        yield _by_finding(
            "auc_low", f"AUC now, lower end ({level}).", [(name, now.low) for name, now, _ in told]
        )
        yield _by_finding(
            "auc_high", f"AUC now, upper end ({level}).", [(name, now.high) for name, now, _ in told]
        )
        yield _by_finding(
            "p_reached",
            "Probability that the target is reached now.",
            [(name, p) for name, _, p in told if p is not None],
        )
        rows = self._page.findings
        yield _by_finding("target", "AUC to reach.", [(row.finding, row.target) for row in rows])
        verdict = GaugeMetricFamily(
            "annotation_loop_verdict",
            "1 for the verdict in force, 0 for the others.",
            labels=["finding", "verdict"],
        )
        for row in rows:
            for each in Verdict:
                verdict.add_metric([row.finding, each], float(row.verdict == each))
        yield verdict


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"annotation_loop_{name}", says, value)


def _by_finding(name: str, says: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"annotation_loop_{name}", says, labels=["finding"])
    for finding, value in values:
        family.add_metric([finding], value)
    return family
