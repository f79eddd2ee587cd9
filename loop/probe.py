"""The probe: one L2-penalised logistic head a finding, on frozen features of any encoder."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds
from loop.errors import BadInput
from loop.logistic import fit_logistic, rotate

Array = NDArray[np.float64]
Features = NDArray[np.float32]
Scorer = Callable[[NDArray[np.bool_]], Array]

STRENGTHS = 10.0 ** np.arange(-4.0, 0.5, 0.5)
"""Strengths to choose from: scikit-learn's C, larger = weaker penalty."""

CAUTIOUS = 0.01
"""The strength where nothing can be compared: every label is of one patient."""

MIN_OWN = 10
"""A finding with fewer of a class takes the strength that suits all findings together."""

N_FOLDS = 5

FEWEST_OF_CLASS = 5
"""Labels of each class that a head needs."""

CURVE_TOLERANCE = 1e-4
"""Newton decrement of the learning curve's many fits; AUC moves by far less than .001."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """How features are seen by the probe: standardised on the pool, then its first principal components.

    Attributes:
        mean: Shape ``(d,)``.
        scale: Standard deviation, shape ``(d,)``; 1 where a feature is constant.
        components: Orthonormal columns, shape ``(d, k)``; None = all d dimensions as they are.
    """

    mean: Array
    scale: Array
    components: Array | None

    def transform(self, features: Features) -> Array:
        """Project raw features ``(n, d)`` to ``(n, k)``."""
        standard = (features - self.mean) / self.scale  # (n, d)
        return standard if self.components is None else standard @ self.components

    def fold(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """Take a linear model of projected features, coef ``(k, K)``, back to raw ones, ``(d, K)``."""
        whole = coef if self.components is None else self.components @ coef
        raw = whole / self.scale[:, None]  # (d, K)
        return raw, intercept - self.mean @ raw


def fit_projection(sample: Features, n_components: int) -> Projection:
    """Standardise on a sample of the pool and find its principal components. No label plays a part.

    Args:
        sample: Raw features, shape ``(n, d)``.
        n_components: Components to keep; 0, or as many as there are dimensions, keeps all dimensions.

    Raises:
        BadInput: The sample is empty or holds a value that is not finite.
    """
    n, d = sample.shape
    if n == 0:
        raise BadInput("No image is encoded yet, so there is nothing to standardise on. Run `loop start`.")
    mean = sample.mean(axis=0, dtype=np.float64)  # (d,)
    if not np.isfinite(mean).all():
        raise BadInput(
            f"{int((~np.isfinite(mean)).sum())} of {d} features are not finite numbers. "
            "Run `loop features verify` and encode the images again."
        )
    centred = sample - mean.astype(np.float32)  # (n, d)
    scale = np.sqrt(np.einsum("nd,nd->d", centred, centred, dtype=np.float64) / n)
    scale[scale <= 1e-6 * np.abs(mean)] = 1.0  # constant, but for rounding
    if not 0 < n_components < d:
        return Projection(mean, scale, None)
    centred /= scale.astype(np.float32)
    with threadpool_limits(1, "blas"):
        if n > d:
            _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))  # ascending
        else:
            axes = rotate(centred.astype(np.float64)).rotation
    components = axes[:, ::-1][:, :n_components]  # (d, k)
    largest = components[np.abs(components).argmax(axis=0), np.arange(components.shape[1])]
    return Projection(mean, scale, np.ascontiguousarray(components * np.where(largest < 0, -1.0, 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """One logistic head a finding, in the raw feature space: scoring a pool is one product.

    Attributes:
        findings: K names.
        coef: Shape ``(d, K)``; NaN where a head is not fitted.
        intercept: Shape ``(K,)``; NaN where a head is not fitted.
        strength: scikit-learn's C of each head, shape ``(K,)``; NaN where it is not fitted.
        fitted: Shape ``(K,)``.
        n_positive: Positives that were known, shape ``(K,)``.
        n_negative: Negatives that were known, shape ``(K,)``.
        n_min: Labels of each class that a head needs.
    """

    findings: tuple[str, ...]
    coef: Features
    intercept: Array
    strength: Array
    fitted: NDArray[np.bool_]
    n_positive: NDArray[np.int64]
    n_negative: NDArray[np.int64]
    n_min: int

    def predict(self, features: Features) -> Array:
        """Probability of each finding, ``(n, K)``, from raw features ``(n, d)``; NaN where not fitted."""
        logits = features @ self.coef + self.intercept  # (n, K)
        return np.asarray(expit(logits, out=logits), np.float64)

    def not_fitted(self) -> dict[str, str]:
        """Why a finding has no head, in words, for those that have none."""
        return {
            name: f"{positive} positives and {negative} negatives are known, a head needs {self.n_min} of each"
            for name, positive, negative, fitted in zip(
                self.findings, self.n_positive, self.n_negative, self.fitted, strict=True
            )
            if not fitted
        }

    def to_bytes(self) -> bytes:
        """The probe as an ``.npz`` archive; equal probes give equal bytes."""
        file = BytesIO()
        parts: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        np.savez(file, **parts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Probe:
        """Read a probe back.

        Raises:
            BadInput: These bytes are not a probe.
        """
        try:
            with np.load(BytesIO(stored), allow_pickle=False) as file:
                parts: dict[str, Any] = {f.name: file[f.name] for f in fields(cls)}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"The stored probe cannot be read: {error}. Run `loop step` to train it anew."
            ) from error
        return cls(**parts | {"findings": tuple(map(str, parts["findings"])), "n_min": int(parts["n_min"])})


def fit_probe(
    features: Features,
    y: Array,
    groups: NDArray[Any],
    findings: Sequence[str],
    projection: Projection,
    rng: np.random.Generator,
    n_min: int = FEWEST_OF_CLASS,
) -> Probe:
    """Train one head a finding, each with the strength that its labels, or all labels, ask for.

    Args:
        features: Raw features of the labelled items, shape ``(n, d)``.
        y: Labels, shape ``(n, K)``: 1, 0, NaN = not known (left out, per finding).
        groups: The patient of each item, shape ``(n,)``.
        findings: K names.
        projection: How the probe sees the features.
        rng: Deals the folds.
        n_min: Labels of each class that a head needs; a finding with fewer is not fitted.
    """
    n_positive, n_negative = (y == 1).sum(axis=0), (y == 0).sum(axis=0)  # (K,)
    fitted = np.minimum(n_positive, n_negative) >= n_min
    strength = np.full(len(findings), np.nan)
    coef = np.full((len(projection.mean), len(findings)), np.nan, np.float32)
    intercept = np.full(len(findings), np.nan)
    if fitted.any():
        x = projection.transform(features)  # (n, k)
        with threadpool_limits(1, "blas"):
            strength[fitted] = choose_strengths(x, y[:, fitted], groups, rng)
            fit = fit_logistic(x, y[:, fitted], strength[fitted])
        coef[:, fitted], intercept[fitted] = projection.fold(fit.coef, fit.intercept)
    return Probe(
        findings=tuple(findings),
        coef=coef,
        intercept=intercept,
        strength=strength,
        fitted=fitted,
        n_positive=n_positive.astype(np.int64),
        n_negative=n_negative.astype(np.int64),
        n_min=n_min,
    )


def choose_strengths(x: Array, y: Array, groups: NDArray[Any], rng: np.random.Generator) -> Array:
    """Choose each finding's strength by out-of-fold log loss, in folds of whole patients.

    Of the strengths whose loss is within one standard error of the best, the strongest penalty is taken.
    The error is that of the difference to the best, which the same items share. A finding with fewer than
    `MIN_OWN` of a class takes the choice of all findings together.

    Args:
        x: Projected features, shape ``(n, k)``.
        y: Labels, shape ``(n, K)``, NaN = not known.
        groups: The patient of each item, shape ``(n,)``.
        rng: Deals the folds.

    Returns:
        scikit-learn's C of each finding, shape ``(K,)``.

    References:
        Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3
        (the one-standard-error rule).
    """
    n, n_findings = y.shape
    try:
        folds = assign_folds(y, groups, N_FOLDS, rng)
    except TooFewLabels:
        return np.full(n_findings, CAUTIOUS)
    n_folds = int(folds.max()) + 1
    taught = folds[None, :] != np.arange(n_folds)[:, None]  # (V, n)
    parts = np.broadcast_to(taught[:, None, :], (n_folds, len(STRENGTHS), n)).reshape(-1, n)
    with threadpool_limits(1, "blas"):
        logits = fit_parts(x, y, parts, np.tile(STRENGTHS, n_folds)[:, None])  # (V S, n, K)
    by_fold = logits.reshape(n_folds, len(STRENGTHS), n, n_findings)
    loss = np.full((n, len(STRENGTHS), n_findings), np.nan)
    for f in range(n_folds):
        out = folds == f
        told = by_fold[f][:, out].swapaxes(0, 1)  # (o, S, K)
        loss[out] = np.logaddexp(0, told) - y[out, None, :] * told
    scarce = np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0))  # (K,)
    _, patient = np.unique(groups, return_inverse=True)
    chosen = np.full(n_findings, _simplest(loss, patient))
    for k in np.flatnonzero(scarce >= MIN_OWN):
        chosen[k] = _simplest(loss[:, :, k : k + 1], patient)
    return chosen


def _simplest(loss: Array, patient: NDArray[np.intp]) -> float:
    """The strongest penalty within one standard error of the best; losses ``(n, S, K)``, NaN = none."""
    known = ~np.isnan(loss)  # (n, S, K) the same for all strengths
    if not known.any():
        return CAUTIOUS
    total = np.where(known, loss, 0.0).sum(axis=2)  # (n, S)
    by_patient = np.zeros((patient.max() + 1, loss.shape[1]))
    np.add.at(by_patient, patient, total)  # (P, S): images of one patient err together
    best = int(by_patient.sum(axis=0).argmin())
    worse = by_patient - by_patient[:, best : best + 1]  # (P, S)
    error = np.sqrt(len(worse)) * worse.std(axis=0)  # (S,) of the sum
    near_best = np.asarray(worse.sum(axis=0) <= error)  # (S,)
    return float(STRENGTHS[near_best.argmax()])


def make_scorer(x: Array, y: Array, strength: Array) -> Scorer:
    """Make the function that trains on a part of the labels and scores every item.

    Args:
        x: Projected features of the labelled items, shape ``(n, k)``.
        y: Labels, shape ``(n, K)``, NaN = not known.
        strength: scikit-learn's C of each finding, shape ``(K,)``, for every size of training set.

    Returns:
        A function of training masks ``(B, n)`` that returns logits ``(B, n, K)``; NaN over all items
        where a head has one class only.
    """
    with threadpool_limits(1, "blas"):
        z = rotate(x).z  # (n, r), r <= min(n, k)

    def score(masks: NDArray[np.bool_]) -> Array:
        with threadpool_limits(1, "blas"):
            return fit_parts(z, y, masks, strength[None, :])

    return score


def fit_parts(x: Array, y: Array, parts: NDArray[np.bool_], strength: Array) -> Array:
    """Train every head on every part of the labels, all as columns of one fit, and score every item.

    Args:
        x: Projected features, shape ``(n, k)``.
        y: Labels, shape ``(n, K)``, NaN = not known.
        parts: What each part trains on, shape ``(B, n)``.
        strength: scikit-learn's C by part and finding, broadcast to ``(B, K)``.

    Returns:
        Logits ``(B, n, K)``; NaN over all items where a head has one class only.
    """
    n_parts, (n, n_findings) = len(parts), y.shape
    columns = np.where(parts.T[:, :, None], y[:, None, :], np.nan).reshape(n, -1)  # (n, B K), part by part
    fit = fit_logistic(x, columns, np.broadcast_to(strength, (n_parts, n_findings)).ravel(), CURVE_TOLERANCE)
    logits = (x @ fit.coef + fit.intercept).reshape(n, n_parts, n_findings)
    return np.ascontiguousarray(logits.swapaxes(0, 1))
