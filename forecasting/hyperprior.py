"""The prior, learnt from finished projects: empirical Bayes over learning curves of many data sets.

    theta_pj = mean + b_p + e_pj,   b_p ~ N(0, diag(between^2)),   e_pj ~ t_dof(0, W)

Each finished project p tells its findings' curves; neither theta nor b is ever seen. EM fills them in: the
E-step weighs draws of both under the present prior, the M-step takes their moments. The prior that one
started from counts as some projects of its own, so one project moves it a little, and a thousand equal
ones still leave a spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from forecasting.auc import Array
from forecasting.curve import LearningCurve
from forecasting.powerlaw import FEWEST_DRAWS, log_likelihood_of
from forecasting.prior import PRIOR, Draws, Prior, aim, cover, log_density

BASE_PROJECTS = 5
"""Finished projects that the prior one starts from is worth."""

BASE_FINDINGS = 4
"""Findings in each of these."""

SMALLEST_SCALE = 0.25
"""No scale falls below this share of what it was."""

LARGEST_CORRELATION = 0.9
"""Nor does z and ln k become one number."""

N_EFFECTS, N_CURVE = 64, 256
"""Draws of a project's effect, and of each of its curves."""

MOST_ROUNDS, STILL = 60, 5e-3
"""Rounds of EM at most; it ends when no hyperparameter moves by more than this share of its scale."""

_WIDER = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class _Project:
    """A finished project, as draws.

    Attributes:
        theta: Draws of each finding's curve given its points and `wide`, equally likely, each ``(N_CURVE, 3)``.
        wide: Log density of each draw under the wide prior, each ``(N_CURVE,)``.
        centre: Where its effect b lies by the round before: what aims the next draws of b, shape ``(3,)``.
        spread: Covariance of the same, shape ``(3, 3)``.
    """

    theta: list[Array]
    wide: list[Array]
    centre: Array
    spread: Array


def fit_prior(projects: Sequence[Sequence[LearningCurve]], base: Prior = PRIOR) -> Prior:
    """Estimate where curves lie from the curves of finished projects, shrunk towards a prior.

    Deterministic. The result is the mode of the hyperparameters' posterior, in which `base` counts as
    `BASE_PROJECTS` projects of `BASE_FINDINGS` findings; `Prior.dof` stays what it was. Curves without
    points say nothing and may be given.

    Args:
        projects: The curves of each project, one a finding; a data set under another encoder is another project.
        base: What is believed without them.
    """
    wide = _widened(base)
    told = [_draw(curves, wide, base) for curves in projects if any(len(curve.auc) for curve in curves)]
    prior = base
    for _ in range(MOST_ROUNDS if told else 0):
        before = prior
        told, prior = _improve(told, before, base)
        if _moved(before, prior, base) < STILL:
            break
    return prior


def _widened(base: Prior) -> Prior:
    """The prior of one curve of an unknown project, and wider: what proposes draws once for every round."""
    scale = _WIDER * np.hypot(base.between, base.within)
    return replace(base, between=(1e-6, 1e-6, 1e-6), within=_triple(scale), correlation=base.correlation / 2)


def _draw(curves: Sequence[LearningCurve], wide: Prior, base: Prior) -> _Project:
    told = [_draw_curve(curve, wide) for curve in curves if len(curve.auc)]
    theta, density = [free for free, _ in told], [log for _, log in told]
    return _Project(theta, density, np.zeros(3), np.diag(np.square(base.between)))


def _draw_curve(curve: LearningCurve, wide: Prior) -> tuple[Array, Array]:
    """Equally likely draws ``(N_CURVE, 3)`` of a curve given its points, and their log density under `wide`."""
    covered = cover(wide, 0)
    nothing: Array = np.zeros((1, 3))
    draws = Draws(covered.free, covered.theta, covered.jitter, covered.likelier[:1], nothing)
    weight = _weigh(curve, draws)
    for _ in range(3):
        if 1 / np.square(weight).sum() >= FEWEST_DRAWS:
            break
        draws = aim(wide, 0, draws, weight, np.ones(1), np.ones(1))
        weight = _weigh(curve, draws)
    steps = (np.arange(N_CURVE) + 0.5) / N_CURVE
    chosen = np.searchsorted(np.cumsum(weight), steps).clip(max=len(weight) - 1)
    free = draws.free[chosen]
    return free, log_density(free, nothing, wide)[0]


def _weigh(curve: LearningCurve, draws: Draws) -> Array:
    log_weight = log_likelihood_of(curve, draws)  # (S,)
    weight = np.exp(log_weight - log_weight.max()) * draws.likelier[0]
    return np.asarray(weight / weight.sum())


def _improve(projects: Sequence[_Project], prior: Prior, base: Prior) -> tuple[list[_Project], Prior]:
    """One round of EM: moments of effects and deviations under `prior`, pooled with those of `base`."""
    expected = [_expect(project, prior) for project in projects]
    effect, square = (np.array([e[i] for e in expected]) for i in (1, 2))  # (P, 3) each
    deviation = np.sum([e[3] for e in expected], axis=0)  # (3, 3)
    n_projects = BASE_PROJECTS + len(projects)
    n_base = BASE_PROJECTS * BASE_FINDINGS
    n_findings = n_base + sum(len(project.theta) for project in projects)

    off = np.array(base.mean) - prior.mean  # (3,) the base's projects lie around its own mean
    moved = (BASE_PROJECTS * off + effect.sum(axis=0)) / n_projects
    around = (square - 2 * moved * effect + moved**2).sum(axis=0)  # E (b - moved)^2
    around += BASE_PROJECTS * (np.square(base.between) + (off - moved) ** 2)
    scale = np.sqrt((np.diag(deviation) + n_base * np.square(base.within)) / n_findings)
    together = deviation[0, 1] + n_base * base.correlation * base.within[0] * base.within[1]
    correlation = together / n_findings / (scale[0] * scale[1])
    better = replace(
        prior,
        mean=_triple(prior.mean + moved),
        between=_triple(np.maximum(np.sqrt(around / n_projects), SMALLEST_SCALE * np.array(base.between))),
        within=_triple(np.maximum(scale, SMALLEST_SCALE * np.array(base.within))),
        correlation=float(np.clip(correlation, -LARGEST_CORRELATION, LARGEST_CORRELATION)),
    )
    return [e[0] for e in expected], better


def _expect(project: _Project, prior: Prior) -> tuple[_Project, Array, Array, Array]:
    """The project, aimed anew; E b and E b^2 ``(3,)``; and, summed over its findings, E u e e' ``(3, 3)``.

    u is the precision of a finding that makes Student's t a normal: ``E u | e = (dof + 3) / (dof + e' W^-1 e)``.
    """
    normal = ndtri(qmc.Sobol(3, seed=np.random.default_rng([0, 2])).random(N_EFFECTS).clip(1e-5, 1 - 1e-5))
    effects = project.centre + normal @ np.linalg.cholesky(_WIDER * project.spread).T  # (G, 3)
    # ln N(b; 0, between^2) less that of the proposal
    log_weight = (np.square(normal) - np.square(effects / prior.between)).sum(axis=1) / 2  # (G,)
    joint: list[Array] = []
    density: list[Array] = []
    for theta, wide in zip(project.theta, project.wide, strict=True):
        now = log_density(theta, effects, prior)  # (G, S)
        likelier = now - wide
        likelier = np.exp(likelier - likelier.max())
        evidence = np.maximum(likelier.sum(axis=1), 1e-300)  # (G,)
        log_weight = log_weight + np.log(evidence)
        joint.append(likelier / evidence[:, None])  # p(theta | b, points)
        density.append(now)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()  # (G,)
    centre = weight @ effects
    away = effects - centre
    spread = (away.T * weight) @ away + 0.01 * np.diag(np.square(prior.between))

    total: Array = np.zeros((3, 3))
    for theta, given, now in zip(project.theta, joint, density, strict=True):
        precision = (prior.dof + 3) / prior.dof * np.exp(2 * now / (prior.dof + 3))  # (G, S)
        q = weight[:, None] * given * precision  # (G, S)
        centred = theta - np.array(prior.mean)  # (S, 3)
        cross = effects.T @ q @ centred  # (3, 3)
        total += (centred.T * q.sum(axis=0)) @ centred - cross - cross.T
        total += (effects.T * q.sum(axis=1)) @ effects
    return replace(project, centre=centre, spread=spread), centre, weight @ np.square(effects), total


def _moved(before: Prior, after: Prior, base: Prior) -> float:
    """Largest change of a hyperparameter, as a share of the base's scales."""
    between, within = np.array(base.between), np.array(base.within)
    changes = np.abs(
        np.concatenate(
            [
                np.subtract(after.mean, before.mean) / between,
                np.subtract(after.between, before.between) / between,
                np.subtract(after.within, before.within) / within,
                [after.correlation - before.correlation],
            ]
        )
    )
    return float(changes.max())


def _triple(values: Array) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c
