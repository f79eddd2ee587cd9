"""Before the first label: texts order the active half of the first batch, and are held to account afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.factory
import pytest
import torch
from loop_world import FINDINGS, Bench, World
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from loop.cold_start import find_tower, open_zero_shot, score_by_texts
from loop.controller import ask_first_batch, step
from loop.encoders import load_encoder
from loop.encoders.text import load_text_tower
from loop.errors import BadInput
from loop.features import FeatureStore, FeatureTable
from loop.items import Item
from loop.opening import read_book
from loop.project import Loop
from loop.sections import PromptSettings
from loop.settings import make_settings
from loop.show_status import show_status
from loop.simulate import EPOCH
from loop.state import State
from loop.status import draw_project, read_status
from loop.strategies import COLD, select_batch, utilities
from loop.zero_shot import Scorer, ZeroShot, make_scorer

COLD_START = 'size = 50\ncold_start = "zero_shot"'


class MadeUp:
    """A tower that knows what the world's features mean: the first axis is Effusion, the second Pneumothorax."""

    fingerprint = "c" * 32
    scale = 20.0

    def __init__(self, dim: int = 16) -> None:
        self.dim = dim
        self.n_images = 0

    def embed_images(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        self.n_images += len(inputs)
        return np.stack([unit(np.asarray(x, dtype=np.float32)) for x in inputs])

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            axis = next(k for k, name in enumerate(FINDINGS) if name.lower() in text)
            vectors[row, axis] = -1.0 if "without" in text or text.startswith("no ") else 1.0
        return vectors


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def seen_by_texts(world: World) -> ZeroShot:
    ids = [item.item for item in world.items]
    scorer = make_scorer("c" * 32, 20.0, MadeUp().embed_text, FINDINGS, PromptSettings())
    return ZeroShot(scorer, FeatureTable(ids, unit(world.features.read(ids))))


def begun(world: World, state: State, bench: Bench) -> Loop:
    loop = world.loop(state, bench, world.settings(batch=COLD_START))
    loop = replace(loop, zero_shot=seen_by_texts(world))
    ask_first_batch(loop)
    return loop


def answer_all(world: World, bench: Bench) -> None:
    for suggestion in bench.served[-1][1]:
        bench.answer(suggestion.task_id, world.answers[suggestion.task_id])


def test_texts_choose_the_active_half_of_the_first_batch_and_chance_the_other(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        begun(world, state, bench)
        (round_,) = state.rounds()
    assert round_.strategy == COLD
    random, active = ([p for p in round_.picks if p.stream == s] for s in ("random", "active"))
    assert (len(random), len(active)) == (25, 25)
    stream = sorted((i for i in world.items if i.stream == "random"), key=lambda i: i.position or 0)
    assert {p.item for p in random} == {i.item for i in stream[:25]}
    told = [p for p in active if p.strategy == COLD]
    assert len(told) == 20  # the rest is the active part's random floor
    assert all(p.reason.startswith("highest zero-shot score: ") for p in told)
    found = [world.answers[world.task_of[p.item]] for p in told]
    rates = np.mean([list(answers.values()) for answers in found], axis=0)
    assert (rates > (0.6, 0.35)).all()  # where .4 and .2 of the images are positive
    assert np.isfinite(round_.scores).all()


def test_zero_shot_scores_are_shown_to_nobody(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        begun(world, state, bench)
    assert all(suggestion.probabilities is None for suggestion in bench.served[0][1])


def test_starting_twice_asks_once_and_the_same(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        ask_first_batch(loop)
        first = [p.item for p in state.rounds()[0].picks]
    with world.state() as state:
        begun(world, state, Bench())
        assert [p.item for p in state.rounds()[0].picks] == first
    assert len(bench.served) == 1


def test_the_scores_of_the_random_half_are_kept_and_nothing_is_bet_on_them(world: World) -> None:
    """The certificate sees them as scored beforehand, and stakes no capital: it had no forecast when they were asked."""
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        answer_all(world, bench)
        report = step(replace(loop, zero_shot=None))
        book = read_book(loop)
        for name in FINDINGS:
            (asked,) = book.asked[name]
            assert (asked.round, asked.bet, len(asked.y)) == (1, False, 25)
            expected = state.rounds()[0].scores_of(name)[
                [p.stream == "random" for p in state.rounds()[0].picks]
            ]
            assert asked.scores.tolist() == expected.tolist()
            evidence = report.findings[name].evidence
            assert evidence is not None
            assert (evidence.log_e, evidence.positives) == (0, 0)
        assert report.labels.random == report.labels.active == 25


def test_every_template_counts_and_a_finding_goes_by_its_words() -> None:
    told: list[str] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        told.extend(texts)
        angle = np.array([float(len(text)) for text in texts])
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    prompts = PromptSettings(
        positive=("a {finding}", "much {finding}!"), negative=("no {finding}",), words={"PTX": "pneumothorax"}
    )
    scorer = make_scorer("f", 2.0, embed, ("PTX", "Pleural_Thickening"), prompts)
    assert scorer.positive["PTX"] == ("a pneumothorax", "much pneumothorax!")
    assert scorer.negative["Pleural_Thickening"] == ("no pleural thickening",)
    assert set(told) == {
        text for side in (scorer.positive, scorer.negative) for texts in side.values() for text in texts
    }
    with_ = embed(scorer.positive["PTX"]).mean(axis=0)
    without = embed(scorer.negative["PTX"])[0]
    np.testing.assert_allclose(scorer.coef[:, 0], 2 * (unit(with_) - without), rtol=1e-5)
    again = Scorer.from_fact(scorer.to_fact())
    assert again.coef.tobytes() == scorer.coef.tobytes()
    assert (again.findings, again.positive, again.fingerprint) == (scorer.findings, scorer.positive, "f")


def test_the_top_of_each_finding_is_asked_before_the_second_of_any() -> None:
    proba = np.array([[0.9, 0.1], [0.2, 0.02], [0.8, 0.05], [0.1, np.nan], [0.3, 0.01]])
    items = list("abcde")
    picks = select_batch(
        COLD, 2, 0.0, (), items, proba, items, ("common", "rare"), np.random.default_rng(0), random_floor=0.0
    )
    assert {p.item for p in picks} == {"a"} | {"c"}
    assert utilities(COLD, proba[:, 1])[[0, 2, 1, 4]].tolist() == [1, 0.75, 0.5, 0.25]


@pytest.fixture
def project(world: World) -> Iterator[tuple[World, Bench, Loop]]:
    """A project on disk that was started by texts: embeddings, state, a first batch."""
    settings = world.settings(batch=COLD_START)
    settings.folder.mkdir()
    ids = [item.item for item in world.items]
    store = FeatureStore.open(settings.folder / "features" / ("0" * 32), "0" * 32, 16)
    store.append(ids, world.features.read(ids))
    bench = Bench()
    with world.state(settings.state_url) as state:
        state.set_fact("encoder", {"spec": settings.encoder.spec, "fingerprint": "0" * 32, "dim": 16}, EPOCH)
        zero_shot = seen_by_texts(world)
        state.set_fact("zero_shot", zero_shot.scorer.to_fact(), EPOCH)
        projected = FeatureStore.open(settings.folder / "zero_shot" / ("c" * 32), "c" * 32, 16)
        projected.append(ids, zero_shot.features.read(ids))
        assert open_zero_shot(world.settings(), state) is None  # an interrupted start, set to random since
        world.settings(batch=COLD_START)
        loop = replace(world.loop(state, bench, settings), zero_shot=open_zero_shot(settings, state))
        ask_first_batch(loop)
        yield world, bench, loop


def test_zero_labels_are_round_0_of_the_status_once_random_labels_exist(
    project: tuple[World, Bench, Loop], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, bench, loop = project
    before = read_status(loop.settings)
    assert all(told.auc is None and told.positives == 0 for told in before.zero_shot.values())
    show_status(before)
    assert "Effusion not known yet (0 yes, 0 no)" in " ".join(capsys.readouterr().out.split())
    for _ in range(3):
        answer_all(world, bench)
        step(loop)
    told = read_status(loop.settings)
    asked = [p.item for r in loop.state.rounds()[:3] for p in r.picks if p.stream == "random"]
    assert loop.zero_shot is not None
    scores = loop.zero_shot.score(asked)
    for k, name in enumerate(FINDINGS):
        y = [world.answers[world.task_of[item]][name] for item in asked]
        auc = told.zero_shot[name].auc
        assert auc is not None
        assert auc.mean == pytest.approx(roc_auc_score(y, scores[:, k]))
        assert auc.low < auc.mean < auc.high
        assert told.zero_shot[name].positives == sum(y)
        assert told.history[0].aucs[name] == auc.mean
    assert told.history[0].round == 0
    show_status(told)
    assert "Zero labels (round 0): AUC of the texts alone" in " ".join(capsys.readouterr().out.split())
    assert told.to_json()["zero_shot"]["Effusion"]["auc"]["level"] == 0.9
    draw_project(loop.settings, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_project_that_began_at_random_has_no_zero_labels(world: World) -> None:
    settings = world.settings()
    settings.folder.mkdir()
    with world.state(settings.state_url) as state:
        ask_first_batch(world.loop(state, Bench(), settings))
    told = read_status(settings)
    assert told.zero_shot == {}
    assert told.history[0].aucs == {}


def test_images_are_embedded_for_texts_once_whatever_the_prompts(tmp_path: Path) -> None:
    class Pixels:
        """An encoder whose model input is an image's sixteen pixels."""

        spec, dim, fingerprint = "pixels", 16, "d" * 32

        def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
            return np.asarray(image.convert("L"), dtype=np.float32).reshape(-1)

        def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
            return np.stack(list(inputs))

    rng = np.random.default_rng(0)
    items = []
    for i in range(5):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(1, 256, (4, 4), dtype=np.uint8)).save(path)
        items.append(Item(f"{i:032x}", path, str(i), "active", None, {}))
    tables = {"project": {"name": "world", "findings": list(FINDINGS)}, "batch": {"cold_start": "zero_shot"}}
    tower = MadeUp()
    with State.create(":memory:") as state:
        for positive in (("with {finding}",), ("a picture with {finding}", "{finding}")):
            settings = make_settings({**tables, "prompts": {"positive": list(positive)}}, base=tmp_path)
            zero_shot = score_by_texts(settings, state, Pixels(), tower, items, lambda *_: None, EPOCH)
        assert tower.n_images == 5
        assert state.fact("zero_shot")["positive"]["Effusion"] == ["a picture with effusion", "effusion"]
        pixels = unit(np.asarray(Image.open(items[2].path), np.float32).reshape(1, 16))
        expected = 1 / (1 + np.exp(-pixels @ zero_shot.scorer.coef))
        np.testing.assert_allclose(zero_shot.score([items[2].item, "e" * 32])[0], expected[0], rtol=2e-3)
        assert np.isnan(zero_shot.score(["e" * 32])).all()


@pytest.mark.parametrize(
    ("tables", "fact"),
    [
        ({"prompts": {"positive": ["an X-ray"]}}, "which 'an X-ray' does not"),
        ({"prompts": {"negative": []}}, "negative"),
        ({"prompts": {"words": {"Efusion": "fluid"}}}, "Did you mean 'Effusion'?"),
        ({"batch": {"cold_start": "zero-shot"}}, "Did you mean 'zero_shot'?"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_with_what_is_possible(
    tables: dict[str, Any], fact: str
) -> None:
    with pytest.raises(BadInput) as caught:
        make_settings({"project": {"findings": list(FINDINGS)}, **tables})
    assert fact in str(caught.value)


# -- the text tower of open_clip ------------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TEXTS = ["a chest X-ray with effusion", "no effusion", "long " * 40]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 52), dtype=np.uint8))


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", TINY)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny").eval()
    return write(tmp_path / "w.safetensors", model.state_dict()), model


def write(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


def test_an_open_clip_tower_gives_the_models_own_directions(checkpoint: tuple[Path, Any]) -> None:
    path, model = checkpoint
    spec = f"open_clip:tiny@{path}"
    tower = load_text_tower(spec, "cpu")
    prepared = load_encoder(spec, "cpu").preprocess(PICTURE)
    with torch.inference_mode():
        texts = model.encode_text(open_clip.get_tokenizer("tiny")(TEXTS), normalize=True).numpy()
        image = model.encode_image(prepared[None], normalize=True).numpy()
    found = tower.embed_text(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, texts, atol=1e-6)
    np.testing.assert_allclose(tower.embed_images([prepared]), image, atol=1e-6)
    assert tower.scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert (
        load_text_tower(spec, "cpu").fingerprint == tower.fingerprint != load_encoder(spec, "cpu").fingerprint
    )


def test_one_changed_weight_of_the_text_tower_changes_its_fingerprint_and_not_the_encoders(
    checkpoint: tuple[Path, Any],
) -> None:
    path, model = checkpoint
    spec = f"open_clip:tiny@{path}"
    before = load_text_tower(spec, "cpu").fingerprint, load_encoder(spec, "cpu").fingerprint
    with torch.no_grad():
        model.token_embedding.weight[3, 3] += 1
    write(path, model.state_dict())
    assert load_text_tower(spec, "cpu").fingerprint != before[0]
    assert load_encoder(spec, "cpu").fingerprint == before[1]


def test_a_checkpoint_of_the_image_tower_alone_has_no_texts(checkpoint: tuple[Path, Any]) -> None:
    path, model = checkpoint
    write(path, {name: tensor for name, tensor in model.state_dict().items() if name.startswith("visual.")})
    load_encoder(f"open_clip:tiny@{path}", "cpu")
    with pytest.raises(BadInput, match="lacks"):
        load_text_tower(f"open_clip:tiny@{path}", "cpu")


def test_an_encoder_without_texts_is_refused_only_where_texts_are_asked_for(world: World) -> None:
    with world.state() as state:
        assert find_tower(world.settings(), state) is None
        settings = world.settings(batch=COLD_START)
        with pytest.raises(BadInput, match='set cold_start = "random"'):
            find_tower(settings, state)
        begun(world, state, Bench())
        assert find_tower(settings, state) is None  # the first batch is asked: nothing is left to order
