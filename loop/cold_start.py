"""Before the first label: embed the images in the space of texts, once, and fix what scores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.encoders import Encoder
from loop.encoders.encode import encode_items
from loop.encoders.text import TextTower, load_text_tower
from loop.features import ABOUT, FeatureStore
from loop.items import Item
from loop.settings import Settings
from loop.state import State
from loop.zero_shot import Scorer, ZeroShot, make_scorer

FACT = "zero_shot"


@dataclass(frozen=True, slots=True)
class Projected:
    """An encoder whose vectors lie in the space of its texts."""

    encoder: Encoder
    tower: TextTower
    dim: int

    @property
    def spec(self) -> str:
        """How it was asked for."""
        return self.encoder.spec

    @property
    def fingerprint(self) -> str:
        """Hash of both towers, preprocessing and tokenizer."""
        return self.tower.fingerprint

    def preprocess(self, image: Image.Image) -> Any:
        """As the encoder does it."""
        return self.encoder.preprocess(image)

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of length one, shape ``(n, dim)``."""
        return self.tower.embed_images(inputs)


def find_tower(settings: Settings, state: State) -> TextTower | None:
    """The text tower, if the first batch is still to be asked and shall not be all random.

    Raises:
        BadInput: The encoder has none.
    """
    if settings.batch.cold_start != "zero_shot" or state.last_round() is not None:
        return None
    chosen = settings.encoder
    first = "cuda" if chosen.device == "all" else chosen.device.partition(",")[0].strip()
    return load_text_tower(chosen.spec, first, chosen.allow_pickle)


def score_by_texts(
    settings: Settings,
    state: State,
    encoder: Encoder,
    tower: TextTower,
    items: Sequence[Item],
    told: Callable[[int, int], None],
    at: datetime,
) -> ZeroShot:
    """Fix the scorer in the state, and embed what the store of projected embeddings lacks.

    The store is named by the model alone: other prompts give other scores of the same embeddings. The texts and what they
    became are a fact of the state, noted before any label.

    Args:
        settings: Prompts and findings.
        state: Where the scorer is noted.
        encoder: Prepares the images.
        tower: Embeds images and texts.
        items: The images.
        told: Called with (images done, images in all).
        at: Now.
    """
    scorer = make_scorer(
        tower.fingerprint, tower.scale, tower.embed_text, settings.project.findings, settings.prompts
    )
    state.set_fact(FACT, scorer.to_fact(), at)
    store = _store(settings, scorer)
    projected = Projected(encoder, tower, scorer.dim)
    encode_items(items, projected, store, settings.encoder.batch_size, told)
    return ZeroShot(scorer, store)


def open_zero_shot(settings: Settings, state: State) -> ZeroShot | None:
    """What scored the images before the first label; None if the first batch was all random."""
    first = next(iter(state.rounds()), None)
    chosen_by = settings.batch.cold_start if first is None else first.strategy
    fact = state.fact(FACT)
    if fact is None or chosen_by != FACT:
        return None
    scorer = Scorer.from_fact(fact)
    if not (_folder(settings, scorer) / ABOUT).is_file():
        return None  # a copy of the state, without embeddings
    return ZeroShot(scorer, _store(settings, scorer))


def _folder(settings: Settings, scorer: Scorer) -> Path:
    return settings.folder / FACT / scorer.fingerprint


def _store(settings: Settings, scorer: Scorer) -> FeatureStore:
    return FeatureStore.open(_folder(settings, scorer), scorer.fingerprint, scorer.dim)
