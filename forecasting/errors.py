"""What a forecast can refuse. Each message names what was found, what is needed, and what to do."""


class ForecastError(Exception):
    """Base of every error that `forecasting` raises."""


class TooFewLabels(ForecastError):
    """Too few positives or negatives for the question asked."""


class NoFit(ForecastError):
    """The curve has no usable point, or the least-squares fit did not converge."""


class BadCurve(ForecastError):
    """The numbers given are not a learning curve: a size below 1, an AUC outside [0, 1], a missing column."""


class BadPlan(ForecastError):
    """A certificate cannot be planned with these numbers: a share, level or AUC outside its range."""
