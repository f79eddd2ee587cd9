"""A team's own strategy: found by its entry point, checked, and refused in words when it is broken."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from readme_blocks import README
from strategy_pools import gaussian_seen
from threadpoolctl import threadpool_limits

from loop.errors import BadInput
from loop.settings import make_settings
from loop.strategies import Pick, select_batch
from loop.strategynames import find_added

ITEMS = [f"{i:04d}" for i in range(60)]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that was installed: a module, and the metadata that an installer writes."""
    about = tmp_path / "ward_strategies-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ward-strategies\nVersion: 1.0\n")
    names = (
        "first",
        "early",
        "greedy",
        "outside",
        "twins",
        "silent",
        "certain",
        "tuples",
        "fails",
        "nothing",
        "threads",
        "absent",
    )
    (about / "entry_points.txt").write_text(
        "[annotation_loop.strategies]\n"
        + "".join(f"{name} = ward_strategies:{name}\n" for name in names)
        + "hybrid = ward_strategies:first\ngone = ward_strategies_gone:first\n"
    )
    (tmp_path / "ward_strategies.py").write_text(
        textwrap.dedent("""
        from loop.strategies import Choice
        from threadpoolctl import threadpool_info

        def first(pool, n, rng):
            return [Choice(row, "first come", -float(row), 0.5) for row in range(n)]

        def early(pool, n, rng):
            return first(pool, n, rng)

        early.needs_probe = False

        def greedy(pool, n, rng):
            return first(pool, n + 1, rng)

        def outside(pool, n, rng):
            return [Choice(len(pool), "beyond", 0.0)]

        def twins(pool, n, rng):
            return [Choice(0, "once", 0.0), Choice(0, "twice", 0.0)]

        def silent(pool, n, rng):
            return [Choice(0, "", 0.0)]

        def certain(pool, n, rng):
            return [Choice(0, "sure", 0.0, 1.5)]

        def tuples(pool, n, rng):
            return [(0, "no choice", 0.0)]

        def fails(pool, n, rng):
            return 1 / 0

        def threads(pool, n, rng):
            found = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
            return [Choice(0, f"{max(found)} of BLAS", 0.0)]

        nothing = 7
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def ask(strategy: str, *, fitted: bool = True) -> list[Pick]:
    proba = np.full((60, 2), 0.3 if fitted else np.nan)
    seen = gaussian_seen(ITEMS, 2)
    return select_batch(
        strategy, 10, 0, (), ITEMS, proba, ITEMS, ["a", "b"], np.random.default_rng(0), seen=seen
    )


@pytest.mark.usefixtures("installed")
def test_an_added_strategy_is_taken_by_the_settings_and_chooses() -> None:
    make_settings({"project": {"findings": ["Edema"]}, "batch": {"strategy": "first"}})
    picks = ask("first")
    assert Counter(p.strategy for p in picks) == {"first": 8, "random": 2}
    ours = [p for p in picks if p.strategy == "first"]
    assert {p.item for p in ours} == set(ITEMS[:8])
    assert {(p.reason, p.inclusion_probability) for p in ours} == {("first come", 0.5)}


def test_the_strategy_that_the_readme_shows_works(installed: Path) -> None:
    (shown,) = re.findall(
        r"```python\n(import numpy.*?def choose.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    (installed / "our_package").mkdir()
    (installed / "our_package" / "module.py").write_text(shown)
    about = installed / "our_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: our-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[annotation_loop.strategies]\nours = our_package.module:choose\n"
    )
    picks = ask("ours")
    assert Counter(p.strategy for p in picks) == {"ours": 8, "random": 2}
    assert any(p.reason == "near the boundary of a finding" for p in picks)


@pytest.mark.usefixtures("installed")
def test_before_any_head_only_a_strategy_that_says_so_is_asked() -> None:
    assert {p.strategy for p in ask("first", fitted=False)} == {"random"}
    assert Counter(p.strategy for p in ask("early", fitted=False)) == {"early": 8, "random": 2}


@pytest.mark.usefixtures("installed")
def test_a_strategy_runs_on_one_thread_whatever_the_process_has() -> None:
    with threadpool_limits(2, "blas"):
        picks = ask("threads")
    assert [p.reason for p in picks if p.strategy == "threads"] == ["1 of BLAS"]
    assert sum(p.strategy == "random" for p in picks) == 9  # what a strategy leaves open is drawn


@pytest.mark.usefixtures("installed")
def test_a_name_of_ours_stays_ours() -> None:
    assert "hybrid" not in find_added()
    assert any("unsure" in p.reason for p in ask("hybrid"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("greedy", "chose 9 images where 8 were wanted"),
        ("outside", "chose row 60 of a pool of 60"),
        ("twins", "two images of one patient"),
        ("silent", "no reason"),
        ("certain", "probability of 1.5"),
        ("tuples", "a tuple where a loop.strategies.Choice belongs"),
        ("fails", "ZeroDivisionError: division by zero"),
        ("nothing", "no function of (pool, n, rng) but a int"),
        ("absent", "cannot be loaded from ward_strategies:absent: AttributeError"),
        ("gone", "cannot be loaded from ward_strategies_gone:first: ModuleNotFoundError"),
    ],
)
def test_a_broken_strategy_is_refused_with_fact_and_remedy(name: str, fact: str) -> None:
    with pytest.raises(BadInput) as refused:
        ask(name)
    assert fact in str(refused.value)
    assert repr(name) in str(refused.value)
    assert "set [batch] strategy to another" in str(refused.value)


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    for refuse in (
        lambda: ask("frist"),
        lambda: make_settings({"project": {"findings": ["Edema"]}, "batch": {"strategy": "frist"}}),
    ):
        with pytest.raises(
            BadInput, match=r"'frist'.*hybrid.*first.*Did you mean 'first'.*annotation_loop\.strategies"
        ):
            refuse()
