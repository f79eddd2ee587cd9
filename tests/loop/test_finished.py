"""A prior from real states: what a step stores is enough, and what is not there is said."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from loop_world import World
from scipy.special import ndtr

from forecasting.hyperprior import fit_prior
from forecasting.prior import PRIOR
from loop.cli import main
from loop.controller import ask_first_batch, step
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.finished import learn_prior, read_curve, read_finished, tell_prior
from loop.opening import project_pool
from loop.priorfile import FittedPrior, read_prior, write_prior
from loop.settings import load_settings
from loop.state import State
from loop.status import assess_again
from loop.step_report import StepReport

AT = datetime(2025, 1, 31, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder after one judged turn of 50 labels, its configuration beside it, its embeddings in place."""
    world = World(tmp_path, n=300)
    settings = world.settings()
    store = FeatureStore.open(settings.folder / "features" / "f", "f", world.dim)
    items = [item.item for item in world.items]
    store.append(items, world.features.read(items))
    with world.state(settings.state_url) as state:
        state.set_fact("encoder", {"spec": settings.encoder.spec, "fingerprint": "f", "dim": world.dim}, AT)
        projection = project_pool(store, items, settings)
        loop = replace(world.loop(state, settings=settings), features=store, projection=projection)
        ask_first_batch(loop)
        step(loop)
    return settings.folder


def forget_curves(project: Path) -> None:
    """Make the stored reports what a version wrote that did not store curves."""
    database = sqlite3.connect(project / "state.db")
    with database:
        database.execute("drop trigger reports_no_update")  # that version had none
        for number, text in database.execute("select seq, report from reports").fetchall():
            report = json.loads(text)
            for told in report["findings"].values():
                del told["curve"], told["selection_bias_se"]
            database.execute("update reports set report = ? where seq = ?", (json.dumps(report), number))
    database.close()


def test_a_report_keeps_the_curve_that_the_forecast_was_fitted_to(project: Path) -> None:
    with State.open(str(project / "state.db")) as state:
        report = StepReport.from_json(state.reports()[-1])
    for name, told in report.findings.items():
        curve = read_curve(name, told)
        assert curve is not None
        assert told.auc_crossfit == pytest.approx(curve.auc[-1])
        assert (curve.n, curve.n_positive, curve.n_negative) == (50, told.positives, told.negatives)
        assert (np.diff(curve.sizes) > 0).all()
        assert curve.sizes[-1] <= 50
        assert (curve.effective < curve.sizes / 4 + 1e-9).all()
    assert read_curve("none", replace(told, curve=())) is None


def test_state_folder_and_configuration_name_the_same_project(project: Path) -> None:
    sources = [str(project / "state.db"), str(project), str(project.parent / "loop.toml")]
    found = [read_finished(source) for source in sources]
    assert len({f.source for f in found}) == 1
    assert found[0].labels == 50
    for other in found[1:]:
        assert [c.auc.tolist() for c in other.curves] == [c.auc.tolist() for c in found[0].curves]


def test_a_prior_of_one_project_says_where_it_comes_from(project: Path) -> None:
    fitted = learn_prior([str(project)], AT)
    came = fitted.fitted_from
    assert (came.projects, came.findings, came.labels, came.date.isoformat()) == (1, 2, 50, "2025-01-31")
    assert fitted.prior == fit_prior([read_finished(str(project)).curves])
    assert fitted.prior != PRIOR
    told = tell_prior(fitted, "mine.toml")
    assert "2025-01-31" in told.comes_from
    assert "1, with 2 findings and 50 labelled images" in told.comes_from


def test_the_command_writes_the_file_that_the_next_project_reads(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "prior.toml"
    done = CliRunner().invoke(main, ["prior", "fit", str(project), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"Wrote {out}" in done.output.replace("\n", " ")
    exact = learn_prior([str(project)], AT).prior
    assert read_prior(out).prior.mean == pytest.approx(exact.mean, abs=5e-5)
    assert (
        load_settings(project.parent / "loop.toml", {}, {"forecast.prior": str(out)}).read_prior()
        == read_prior(out).prior
    )


def test_a_project_counts_once(project: Path) -> None:
    with pytest.raises(BadInput, match="named 2 times"):
        learn_prior([str(project), str(project / "state.db")], AT)


def test_a_state_without_curve_points_names_the_remedy_and_the_remedy_works(project: Path) -> None:
    before = read_finished(str(project))
    forget_curves(project)
    with pytest.raises(BadInput, match="Name the project's configuration instead"):
        read_finished(str(project))
    again = read_finished(str(project.parent / "loop.toml"))
    assert (again.source, again.labels) == (before.source, before.labels)
    for now, then in zip(again.curves, before.curves, strict=True):
        assert (now.n, now.n_positive, now.n_negative) == (then.n, then.n_positive, then.n_negative)
        assert now.sizes[-1] == pytest.approx(then.sizes[-1], rel=0.1)
        assert now.auc[-1] == pytest.approx(then.auc[-1], abs=0.1)  # the same labels, dealt into other folds


def test_a_project_without_a_judged_turn_has_no_curve(tmp_path: Path) -> None:
    world = World(tmp_path, n=100)
    settings = world.settings()
    with world.state(settings.state_url) as state:
        ask_first_batch(world.loop(state, settings=settings))
    with pytest.raises(BadInput, match="no learning curve yet"):
        read_finished(str(settings.folder))


@pytest.mark.parametrize("name", ["nowhere", "nowhere/state.db"])
def test_a_state_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="no state"):
        read_finished(str(tmp_path / name))


def test_a_prior_in_words_agrees_with_its_numbers() -> None:
    told = tell_prior(None)
    assert told.name == "shipped"
    assert "chest X-rays" in told.comes_from
    means = [told.auc_at[n].mean for n in sorted(told.auc_at)] + [told.plateau.mean]
    assert means == sorted(means)
    assert told.half_way[0] < np.exp(PRIOR.mean[1]) < told.half_way[2]
    assert told.half_way[1] == pytest.approx(np.exp(PRIOR.mean[1]), rel=0.05)
    assert told.to_json()["prior"]["correlation"] == PRIOR.correlation


def test_two_thirds_of_projects_and_of_findings_lie_where_a_prior_in_words_says() -> None:
    """Of 40,000 drawn: the share strays by sqrt(2 / 9 / 40,000) = .0024."""
    told, rng = tell_prior(None), np.random.default_rng(0)
    projects = ndtr(PRIOR.mean[0] + PRIOR.between[0] * rng.standard_normal(40_000))
    findings = ndtr(PRIOR.mean[0] + PRIOR.within[0] * rng.standard_t(PRIOR.dof, 40_000))
    for drawn, (low, high) in ((projects, told.projects), (findings, told.findings)):
        assert ((low < drawn) & (drawn < high)).mean() == pytest.approx(2 / 3, abs=4 * 0.0024)


def test_a_project_forecasts_by_its_own_prior_and_a_change_of_it_is_an_amendment(project: Path) -> None:
    """The file's numbers are frozen, not its name: written anew it is another prior."""
    config = project.parent / "loop.toml"
    optimist = replace(PRIOR, mean=(2.5, *PRIOR.mean[1:]), between=(0.05, *PRIOR.between[1:]))
    with State.open(str(project / "state.db")) as state:
        came = learn_prior([str(project)], AT).fitted_from
        for prior in (PRIOR, optimist):
            write_prior(project.parent / "p.toml", FittedPrior(prior, came))
            settings = load_settings(config, {}, {"forecast.prior": "p.toml"})
            state.amend(settings.frozen_part(), AT)
    plain, told = (assess_again(load_settings(config, {}, o)) for o in ({}, {"forecast.prior": "p.toml"}))
    assert told.curves["Effusion"].auc.tolist() == plain.curves["Effusion"].auc.tolist()
    assert told.forecasts["Effusion"].plateau().mean > plain.forecasts["Effusion"].plateau().mean + 0.01
    with State.open(str(project / "state.db")) as state:
        first, second = state.amendments()
    assert "forecast.prior from its default to p.toml (mean [1.2" in first
    assert "to p.toml (mean [2.5" in second
