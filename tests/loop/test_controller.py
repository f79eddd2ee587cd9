"""One turn of the loop, on a small world of known difficulty."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_world import FINDINGS, Bench, World

from annotate.records import Pull, Receipt, Roll, Suggestion
from loop.controller import ask_first_batch, step
from loop.errors import BadInput, Unavailable
from loop.opening import read_book
from loop.probe import Probe
from loop.project import Desk, Loop
from loop.rehearsal import rehearse
from loop.show_status import show_status
from loop.show_step import batch_text, show_step
from loop.simulate import EPOCH
from loop.state import State
from loop.status import read_status


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def label_batch(bench: Bench, world: World, n: int | None = None) -> list[int]:
    """Answer the batch served last, truthfully, in its order."""
    asked = [s.task_id for s in bench.served[-1][1]][:n]
    for task_id in asked:
        bench.answer(task_id, world.answers[task_id])
    return asked


def batches(state: State) -> list[list[str]]:
    return [[pick.item for pick in round_.picks] for round_ in state.rounds()]


def test_the_first_batch_is_all_random_and_without_suggestions(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        report = ask_first_batch(world.loop(state, bench))
        assert report.batch is not None
        assert (report.batch.size, report.batch.random) == (50, 50)
        first = state.rounds()[0]
        stream = sorted((i for i in world.items if i.stream == "random"), key=lambda i: i.position or 0)
        assert {p.item for p in first.picks} == {i.item for i in stream[:50]}
        assert all(s.probabilities is None for s in bench.served[0][1])


def test_starting_twice_asks_once(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        ask_first_batch(world.loop(state, bench))
        ask_first_batch(world.loop(state, bench))
        assert len(state.rounds()) == len(bench.served) == 1


def test_a_turn_before_the_start_says_what_to_do(world: World) -> None:
    with world.state() as state, pytest.raises(BadInput, match="loop start"):
        step(world.loop(state, Bench()))


def test_an_unfinished_batch_waits_and_changes_nothing(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world, n=44)  # of 50; 45 would be 90 %
        report = step(loop)
        assert (report.action, report.outstanding) == ("waiting", 6)
        assert len(state.rounds()) == len(bench.served) == 1
        label_batch(bench, world, n=45)
        assert step(loop).action == "pushed"


@pytest.mark.parametrize(
    ("strategy", "reason", "told"),
    [
        (
            "uncertainty",
            r"drawn at random: no finding has a head yet",
            "drawn at random from the active part",
        ),
        (
            "hybrid",
            r"typical of \d+ images?;.*|drawn at random from the rest of the active part",
            "by the hybrid of doubt, open findings and distance",
        ),
    ],
)
def test_a_batch_that_no_head_could_choose_says_how_it_came_about(
    world: World, strategy: str, reason: str, told: str
) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench, world.settings(batch=f'size = 50\nstrategy = "{strategy}"'))
        ask_first_batch(loop)
        for suggestion in bench.served[0][1]:
            bench.answer(suggestion.task_id, dict.fromkeys(FINDINGS, 0.0))
        batch = step(loop).batch
        assert batch is not None
        active = [pick for pick in state.rounds()[-1].picks if pick.stream == "active"]
        assert all(re.fullmatch(reason, pick.reason) for pick in active)
        assert batch_text(batch) == f"25 from the random stream, 25 {told}"


def test_now_judges_an_unfinished_batch_and_asks_what_is_left_of_the_random_stream_again(
    world: World,
) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world, n=30)
        left = [s.task_id for s in bench.served[0][1]][30:]
        report = step(loop, force=True)
        assert report.action == "pushed"
        again = {s.task_id for s in bench.served[1][1] if s.probabilities is None}
        assert set(left) <= again
        (told,) = report.warnings
        assert told.startswith("20 of the 50 images of the batch before were answered by nobody")
        assert told.endswith(": 20 asked again now.")


def test_now_says_where_untouched_images_of_a_mixed_batch_go(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world, n=50)
        step(loop)
        asked = {pick.item: pick.stream for pick in state.rounds()[1].picks}
        (told,) = step(loop, force=True).warnings
        now = {pick.item for pick in state.rounds()[2].picks}
        left = [item for item, stream in asked.items() if stream == "active" and item not in now]
        assert {item for item, stream in asked.items() if stream == "random"} <= now
        assert f"{50 - len(left)} asked again now, {len(left)} are back in the pool" in told


def test_every_later_batch_is_half_random_and_random_images_carry_no_suggestion(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        report = step(loop)
        assert report.batch is not None
        assert (report.batch.random, report.batch.active) == (25, 25)
        picks = state.rounds()[1].picks
        shown = [s.probabilities for s in bench.served[1][1]]
        assert [p is None for p in shown] == [pick.stream == "random" for pick in picks]
        by_id = {i.item: i for i in world.items}
        assert all(by_id[pick.item].stream == pick.stream for pick in picks)


def test_an_item_is_never_asked_twice_once_it_is_answered(world: World) -> None:
    with world.state() as state:
        loop = world.loop(
            state,
            settings=world.settings(
                stop='target = 0.91\nevidence = "certified"\ntolerance = 0.0\nbudget = 400'
            ),
        )
        ask_first_batch(loop)
        while step(loop).verdict == "CONTINUE":
            pass
        asked = [item for batch in batches(state) for item in batch]
        assert len(asked) == len(set(asked)) == 400


def test_scores_are_written_down_before_the_labels_exist(world: World) -> None:
    """The certificate reads each random image's score by the probe that had not seen its label."""
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        step(loop)
        scores = state.rounds()[1].scores.copy()
        assert np.isfinite(scores).all()
        label_batch(bench, world)
        step(loop)
        np.testing.assert_array_equal(state.rounds()[1].scores, scores)
        for k, finding in enumerate(FINDINGS):
            (asked,) = read_book(loop).asked[finding]  # the first batch has no scores, the third no labels
            random = [rank for rank, pick in enumerate(state.rounds()[1].picks) if pick.stream == "random"]
            np.testing.assert_array_equal(asked.scores, scores[random, k])


def test_scores_are_those_of_the_probe_in_force_when_the_images_were_asked(world: World) -> None:
    with world.state() as state:
        loop = world.loop(
            state, settings=world.settings(stop='target = 0.97\nevidence = "certified"\nbudget = 200')
        )
        ask_first_batch(loop)
        while step(loop).verdict == "CONTINUE":
            pass
        for round_ in state.rounds()[1:-1]:  # the last round's number also names the probe that judged it
            stored = state.probe(round_.number)
            assert stored is not None
            scores = Probe.from_bytes(stored).predict(world.features.read([p.item for p in round_.picks]))
            np.testing.assert_array_equal(round_.scores, scores)


def test_a_label_that_arrives_while_a_batch_is_chosen_ends_the_turn_and_the_next_one_chooses_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may pull between our pull and our commit."""
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        stream = sorted((i for i in world.items if i.stream == "random"), key=lambda i: i.position or 0)
        early = world.task_of[stream[50].item]  # the next random image to be asked
        add_round = State.add_round

        def cut_in(held: State, *args: Any) -> None:
            bench.answer(early, world.answers[early])
            held.save_pull(bench.pull(held.watermark()), loop.clock())
            add_round(held, *args)

        with monkeypatch.context() as patched:
            patched.setattr(State, "add_round", cut_in)
            with pytest.raises(Unavailable, match="run the command again"):
                step(loop)
        assert len(state.rounds()) == len(bench.served) == 1
        assert step(loop).action == "pushed"
        assert stream[50].item not in batches(state)[1]


def test_the_certificate_reads_a_round_only_up_to_its_first_unanswered_image(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        step(loop)
        picks = state.rounds()[1].picks
        random = [pick.item for pick in picks if pick.stream == "random"]
        for item in random[:4] + random[5:]:
            bench.answer(world.task_of[item], world.answers[world.task_of[item]])
        step(loop)
        assert len(read_book(loop).asked[FINDINGS[0]][0].y) == 4


def test_a_corrected_label_trains_the_next_probe(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        asked = label_batch(bench, world)
        step(loop)
        wrong = {name: 1.0 - value for name, value in world.answers[asked[0]].items()}
        bench.answer(asked[0], wrong)
        step(loop)
        book = read_book(loop)
        row = book.items.index(f"{asked[0]:032x}")
        assert book.y[row].tolist() == list(wrong.values())


def test_a_withdrawn_label_no_longer_trains(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        asked = label_batch(bench, world)
        step(loop)
        bench.withdraw(asked[0])
        step(loop)
        assert f"{asked[0]:032x}" not in read_book(loop).items
        assert read_book(loop).random_next[0] == f"{asked[0]:032x}"


def test_a_skipped_image_counts_as_answered_and_is_shown(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        for n, suggestion in enumerate(bench.served[0][1]):
            bench.answer(suggestion.task_id, world.answers[suggestion.task_id], skipped=n < 3)
        report = step(loop)
        assert report.action == "pushed"
        assert (report.labels.skipped, report.labels.total) == (3, 47)


def test_labels_that_nobody_asked_for_train_but_never_count_as_random(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        later = [i for i in world.items if i.stream == "random"][-1]
        bench.answer(world.task_of[later.item], world.answers[world.task_of[later.item]])
        step(loop)
        book = read_book(loop)
        assert book.count.unasked == 1
        assert not book.is_random[book.items.index(later.item)]
        assert later.item not in book.random_next


def test_other_images_of_a_random_patient_are_set_aside(tmp_path: Path) -> None:
    world = World(tmp_path, images_a_patient=2)
    bench = Bench()
    with world.state() as state:
        spare = next(i for i in world.items if i.stream == "spare")
        state.add_tasks(
            {spare.item: world.task_of[spare.item]}, datetime.fromisoformat("2020-01-01T00:00:00Z")
        )
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        bench.answer(world.task_of[spare.item], world.answers[world.task_of[spare.item]])
        report = step(loop)
        assert report.labels.set_aside == 1
        assert spare.item not in read_book(loop).items


def test_the_same_labels_give_the_same_batches(world: World) -> None:
    told = []
    for _ in range(2):
        with world.state() as state:
            loop = world.loop(
                state,
                settings=world.settings(
                    stop='target = 0.91\nevidence = "certified"\ntolerance = 0.0\nbudget = 200'
                ),
            )
            ask_first_batch(loop)
            while (report := step(loop)).verdict == "CONTINUE":
                pass
            told.append((batches(state), {n: f.auc for n, f in report.findings.items()}))
    assert told[0] == told[1]


def test_an_easy_target_is_called_likely_and_the_project_stops(world: World) -> None:
    with world.state() as state:
        loop = world.loop(state, settings=world.settings(stop="target = 0.75\nbudget = 500"))
        ask_first_batch(loop)
        while (report := step(loop)).verdict == "CONTINUE":
            pass
        assert {f.verdict for f in report.findings.values()} <= {"LIKELY REACHED", "CERTIFIED"}
        assert report.labels.total < 500


def test_a_stopped_project_says_the_same_again_until_a_label_changes(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench, world.settings(stop="target = 0.9\nbudget = 50"))
        ask_first_batch(loop)
        asked = label_batch(bench, world)
        first = step(loop)
        assert first.verdict == "STOP"
        assert step(loop).to_json() == first.to_json()
        assert len(state.reports()) == 2  # the first batch and the stop
        bench.withdraw(asked[0])
        assert step(loop).labels.total == 49


def test_findings_share_alpha_by_the_correction_and_a_changed_one_is_an_amendment(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        fold: dict[str, set[int]] = {}  # how much the capital must grow
        for correction in ("holm", "bonferroni", "none"):
            chosen = world.settings(stop=f'target = 0.9\ncorrection = "{correction}"')
            told = rehearse(replace(loop, settings=chosen)).findings.values()
            fold[correction] = {
                round(np.exp(finding.evidence.needed)) for finding in told if finding.evidence
            }
        assert fold == {"holm": {20 * len(FINDINGS)}, "bonferroni": {20 * len(FINDINGS)}, "none": {20}}
        amended = step(replace(loop, settings=chosen)).amendments
        assert "stop.correction from holm to none" in amended[0]


def test_a_rehearsal_changes_nothing(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        report = rehearse(loop)
        assert report.action == "pushed (dry run)"
        assert len(state.rounds()) == len(bench.served) == 1
        assert state.watermark() is None
        assert step(loop).batch == report.batch


def test_a_changed_target_is_stored_as_an_amendment_and_shown(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        report = step(replace(loop, settings=world.settings(stop="target = 0.7")))
        assert len(report.amendments) == 1
        assert "target" in report.amendments[0]


AMENDED = {
    "target": ("stop", "target = 0.7", "stop.target from 0.9 to 0.7"),
    "target of one finding": (
        "stop",
        "[stop.target]\nEffusion = 0.9\nPneumothorax = 0.7",
        "'Pneumothorax': 0.7",
    ),
    "alpha": ("stop", "target = 0.9\nalpha = 0.1", "stop.alpha from 0.05 to 0.1"),
    "rule": ("stop", 'target = 0.9\nrule = "mean"', "stop.rule from all to mean"),
    "evidence": ("stop", 'target = 0.9\nevidence = "certified"', "stop.evidence from likely to certified"),
    "tolerance": ("stop", "target = 0.9\ntolerance = 0.05", "stop.tolerance from 0.03 to 0.05"),
    "random share": ("batch", "size = 50\nrandom_share = 0.8", "batch.random_share from 0.5 to 0.8"),
    "strategy": ("batch", 'size = 50\nstrategy = "margin"', "batch.strategy from hybrid to margin"),
    "method": ("forecast", 'method = "nls"', "forecast.method from bayes to nls"),
}


@pytest.mark.parametrize("what", AMENDED)
def test_every_frozen_setting_that_changes_is_stored_with_its_time_and_shown_everywhere(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    section, body, sentence = AMENDED[what]
    url = str(tmp_path / "state.db")
    project = f'name = "world"\nfindings = {list(FINDINGS)}\nstate = "{url}"'
    with world.state(url) as state:
        bench = Bench()
        loop = world.loop(state, bench, world.settings(project=project))
        ask_first_batch(loop)
        assert step(loop).amendments == ()
        changed = world.settings(project=project, **{section: body})
        show_status(read_status(changed))
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.count("not in force yet: ") == 1
        assert sentence in shown
        waiting = step(replace(loop, settings=changed))  # even a turn that only waits tells
        (told,) = waiting.amendments
        assert sentence in told
        assert told.startswith(f"{EPOCH:%Y-%m-%d}")
        label_batch(bench, world)
        decided = step(replace(loop, settings=changed))
        assert decided.amendments == waiting.amendments
        assert told in decided.to_json()["amendments"]
    status = read_status(changed)
    assert status.to_json()["amendments"] == [told]
    assert status.amending == ()
    for show in (lambda: show_step(decided), lambda: show_status(status)):
        show()
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.count(f"changed since the start: {told}") == 1


def test_a_larger_budget_is_no_amendment(world: World) -> None:
    with world.state() as state:
        loop = world.loop(state, Bench())
        ask_first_batch(loop)
        assert (
            step(replace(loop, settings=world.settings(stop="target = 0.9\nbudget = 500"))).amendments == ()
        )


class Died(BaseException):
    """The process ended here."""


def dying(method: Callable[..., Any], before: bool) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        if before:
            raise Died
        method(*args, **named)
        raise Died

    return call


class Dying:
    """A desk whose push dies before or after it reached the annotators."""

    overlap = timedelta(0)

    def __init__(self, desk: Desk, before: bool) -> None:
        self._desk, self._before = desk, before

    def pull(self, since: datetime | None) -> Pull:
        return self._desk.pull(since)

    def push(self, version: str, suggestions: tuple[Suggestion, ...]) -> Receipt:
        if not self._before:
            self._desk.push(version, suggestions)
        raise Died

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        return self._desk.existing(task_ids)

    def roll(self, up_to: int | None = None) -> Roll:
        return self._desk.roll(up_to)

    def keep_serving(self, version: str) -> tuple[str, ...]:
        return self._desk.keep_serving(version)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("where", ["save_pull", "add_round", "push", "confirm_push"])
def test_a_turn_that_died_is_completed_by_the_next_with_the_same_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, before: bool
) -> None:
    world = World(tmp_path)

    def labelled(name: str) -> tuple[Bench, Loop]:
        bench = Bench()
        loop = world.loop(world.state(str(tmp_path / name)), bench)
        ask_first_batch(loop)
        label_batch(bench, world)
        return bench, loop

    undisturbed, loop = labelled("undisturbed.db")
    step(loop)
    loop.state.close()

    bench, loop = labelled("killed.db")
    with monkeypatch.context() as patched:
        if where == "push":
            dying_loop = replace(loop, desk=Dying(bench, before))
        else:
            patched.setattr(State, where, dying(getattr(State, where), before))
            dying_loop = loop
        with pytest.raises(Died):
            step(dying_loop)
    loop.state.close()

    with State.open(str(tmp_path / "killed.db")) as state:
        again = replace(loop, state=state)
        report = step(again)
        assert report.action in ("pushed", "completed", "waiting")
        assert bench.served == undisturbed.served
        assert len(state.rounds()) == 2
        assert read_book(again).count.total == 50
        assert step(again).action == "waiting"


def test_a_stop_ends_when_the_budget_is_raised(world: World) -> None:
    with world.state() as state:
        loop = world.loop(
            state, settings=world.settings(stop='target = 0.91\nevidence = "certified"\nbudget = 50')
        )
        ask_first_batch(loop)
        assert step(loop).verdict == "STOP"
        raised = world.settings(stop='target = 0.91\nevidence = "certified"\nbudget = 120')
        report = step(replace(loop, settings=raised))
        assert report.verdict == "CONTINUE"
        assert report.batch is not None
        assert report.batch.size == 50
        assert step(replace(loop, settings=raised)).batch.size == 20  # type: ignore[union-attr]


def test_a_stop_is_judged_anew_after_a_turn_that_died_behind_its_pull(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench, world.settings(stop="target = 0.9\nbudget = 50"))
        ask_first_batch(loop)
        asked = label_batch(bench, world)
        assert step(loop).labels.total == 50
        bench.withdraw(asked[0])
        state.save_pull(bench.pull(state.watermark()), loop.clock())  # and here it died
        assert step(loop).labels.total == 49


def test_the_first_batch_keeps_to_the_budget(world: World) -> None:
    with world.state() as state:
        report = ask_first_batch(world.loop(state, Bench(), world.settings(stop="target = 0.9\nbudget = 20")))
        assert report.batch is not None
        assert report.batch.size == 20


def test_images_whose_tasks_were_deleted_are_not_waited_for(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        asked = [s.task_id for s in bench.served[0][1]]
        for task_id in asked[:40]:
            bench.answer(task_id, world.answers[task_id])
        assert step(loop).outstanding == 10
        bench.deleted = set(asked[40:])
        report = step(loop)
        assert (report.action, report.outstanding) == ("pushed", 0)
        assert not {f"{task_id:032x}" for task_id in asked[40:]} & set(batches(state)[1])
        assert not bench.deleted & set(state.tasks().values())


def test_the_labels_of_a_deleted_task_are_withdrawn_and_stay_in_the_history(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        asked = [s.task_id for s in bench.served[0][1]]
        for task_id in asked[:30]:
            bench.answer(task_id, world.answers[task_id])
        step(loop)
        bench.deleted = set(asked[:3])
        report = step(loop)
        assert (report.pulled, report.outstanding) == (3, 20)
        assert state.labels().keys() == set(asked[3:30])
        assert not bench.deleted & set(state.tasks().values())
        assert len(state.label_history()) == 30
        assert step(loop).pulled == 0


def test_picked_labels_alone_never_stop_a_project(world: World) -> None:
    """What somebody picked by hand is no sample: the AUC on it may be anything."""
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench, world.settings(stop="target = 0.6"))
        ask_first_batch(loop)
        asked = {s.task_id for s in bench.served[0][1]}
        for item in [i for i in world.items if world.task_of[i.item] not in asked][:250]:
            bench.answer(world.task_of[item.item], world.answers[world.task_of[item.item]])
        report = step(loop, force=True)
        assert (report.labels.random, report.labels.unasked) == (0, 250)
        assert {f.verdict for f in report.findings.values()} == {"KEEP LABELLING"}
        assert "random stream" in report.findings[FINDINGS[0]].reason


def test_a_project_whose_random_stream_is_labelled_already_goes_on_with_the_active_part(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        for item in world.items:
            if item.stream == "random":
                bench.answer(world.task_of[item.item], world.answers[world.task_of[item.item]])
        state.save_pull(bench.pull(None), loop.clock())
        report = ask_first_batch(loop)
        assert report.batch is not None
        assert (report.batch.random, report.batch.active) == (0, 50)
