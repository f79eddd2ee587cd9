"""Several devices share the work; the rows are those of one device, in the same order."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pixels_encoder import Pixels, items_in, write_pictures

from loop.encoders.devices import load_on_devices
from loop.encoders.embed import here
from loop.encoders.encode import encode_items
from loop.errors import BadInput
from loop.stores import open_store


@dataclass
class Together(Pixels):
    """Computes its first batch only when all are at work: they wait for each other."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        if not self.batches:
            self.barrier.wait(timeout=30)
        return super().embed(inputs)


def test_several_devices_work_at_the_same_time_and_give_the_bytes_of_one(tmp_path: Path) -> None:
    items = items_in(write_pictures(tmp_path / "images", 50))
    one = Pixels()
    encode_items(items, one, open_store(tmp_path / "one", one), 4)
    barrier = threading.Barrier(3)
    lanes = [
        Together(barrier=barrier, batch_s=slow) for slow in (0.03, 0.0, 0.01)
    ]  # the first one lags behind
    report = encode_items(items, lanes[0], open_store(tmp_path / "three", one), 4, workers=here(lanes))
    assert report.encoded == 50
    assert all(lane.batches for lane in lanes)
    assert sum(sum(lane.batches) for lane in lanes) == 50
    for name in ("vectors.f16", "items.bin", "commits.log"):
        assert (tmp_path / "three" / "pixels" / name).read_bytes() == (
            tmp_path / "one" / "pixels" / name
        ).read_bytes()


def test_a_device_that_fails_ends_the_run_and_what_came_before_it_stays(tmp_path: Path) -> None:
    items = items_in(write_pictures(tmp_path / "images", 40))
    lanes = [Pixels(), Pixels(stop_after=2)]
    store = open_store(tmp_path / "s", lanes[0])
    with pytest.raises(InterruptedError):
        encode_items(items, lanes[0], store, 4, workers=here(lanes))
    assert len(store) % 4 == 0
    assert store.verify().bad == ()
    before = len(store)
    assert encode_items(items, lanes[0], store, 4).encoded == 40 - before
    assert len(store) == 40


def test_the_devices_are_read_from_a_list() -> None:
    lanes = load_on_devices("timm:tf_efficientnet_lite0", "cpu, cpu")
    assert len(lanes) == 2
    assert lanes[0] is not lanes[1]
    with pytest.raises(BadInput, match="cuda:99"):
        load_on_devices("timm:tf_efficientnet_lite0", "cpu,cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_all_gpus_of_a_machine_without_one_is_refused() -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        load_on_devices("timm:tf_efficientnet_lite0", "all")
