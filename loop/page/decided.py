"""What the last decision rested on, read back from the state: its settings, its forecasts, and those under other encoders."""

from __future__ import annotations

from forecasting.powerlaw import Forecast
from forecasting.widening import widen
from loop.assess import fit_forecasts
from loop.finished import read_curve
from loop.opening import read_decision
from loop.others import read_others
from loop.sections import StopSettings
from loop.settings import Settings
from loop.state import State
from loop.step_report import StepReport


def last_judged(state: State) -> StepReport | None:
    """The last decision with a verdict a finding; the one before the first label has none."""
    reports = state.reports()
    return next((read_decision(state, told) for told in reversed(reports) if told.get("findings")), None)


def settings_of(last: StepReport | None, settings: Settings) -> Settings:
    """The settings by which a decision was made: what it sealed, and for the rest what they are now."""
    sealed = dict(last.settings) if last else {}
    if not sealed:
        return settings
    stop = {name.removeprefix("stop."): value for name, value in sealed.items() if name.startswith("stop.")}
    return settings.model_copy(
        update={
            "stop": StopSettings.model_validate(stop),
            "project": settings.project.model_copy(update={"findings": tuple(sealed["findings"])}),
            "batch": settings.batch.model_copy(update={"random_share": sealed["batch.random_share"]}),
            "forecast": settings.forecast.model_copy(update={"method": sealed["forecast.method"]}),
        }
    )


def refit(last: StepReport | None, settings: Settings) -> dict[str, Forecast]:
    """The forecasts of a decision, from the points of the curves that its report keeps."""
    if last is None:
        return {}
    curves, widened = {}, {}
    for name, told in last.findings.items():
        if told.forecast and (curve := read_curve(name, told)) is not None:
            curves[name], widened[name] = curve, told.forecast.widened
    return {
        name: widen(forecast, widened[name]) for name, forecast in fit_forecasts(curves, settings).items()
    }


def refit_others(last: StepReport | None, state: State, settings: Settings) -> dict[str, dict[str, Forecast]]:
    """The same under every other encoder of the store, where its curves were measured behind this decision."""
    wider = last.score.widening if last and last.score else 1.0
    return {
        encoder: {name: widen(forecast, wider) for name, forecast in fit_forecasts(curves, settings).items()}
        for encoder, curves in (read_others(state, last.at) if last else {}).items()
    }
