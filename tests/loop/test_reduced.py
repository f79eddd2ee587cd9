"""Reduced copies: made once, the same pixels from the copy as from the image, and never mixed with whole images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image, ImageFilter
from pixels_encoder import Pixels, items_in, picture

from loop.encoders import load_encoder
from loop.encoders.encode import encode_items
from loop.encoders.reducing import reducing
from loop.errors import BadInput
from loop.images import open_image
from loop.reduced import ReducedImages, reduce_image
from loop.stores import list_stores, open_store


def smooth(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return picture(seed, size).filter(ImageFilter.GaussianBlur(12))


@pytest.mark.parametrize(
    ("size", "reduced"),
    [((400, 300), (133, 100)), ((300, 400), (100, 133)), ((100, 400), (100, 400)), ((7, 5), (7, 5))],
)
def test_the_shorter_side_gets_the_size_and_smaller_images_stay(
    size: tuple[int, int], reduced: tuple[int, int]
) -> None:
    image = picture(1, size)
    small = reduce_image(image, 100)
    assert small.size == reduced
    if size == reduced:
        assert small.tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", ["png", "jpg", "dcm"])
def test_a_copy_has_the_pixels_that_made_it_and_the_source_is_not_read_again(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "dcm":
        write_dicom(path, np.asarray(smooth((900, 700))).astype(np.uint16) * 16)
    else:
        smooth((900, 700)).save(path)
    copies = ReducedImages(tmp_path / "copies", 100)
    first = copies.open("ab" * 16, path)
    assert first.size == (129, 100)
    path.unlink()
    again = copies.open("ab" * 16, path)
    assert again.mode == first.mode == "L"
    assert again.tobytes() == first.tobytes()
    assert [found.name for found in (tmp_path / "copies" / "ab").iterdir()] == [f"{'ab' * 16}.png"]


def test_an_image_that_is_not_larger_is_not_copied(tmp_path: Path) -> None:
    smooth((120, 90)).save(tmp_path / "a.png")
    copies = ReducedImages(tmp_path / "copies", 100)
    assert copies.open("ab" * 16, tmp_path / "a.png").size == (120, 90)
    assert not (tmp_path / "copies").exists()


def test_a_torn_copy_is_made_again(tmp_path: Path) -> None:
    smooth((900, 700)).save(tmp_path / "a.png")
    copies = ReducedImages(tmp_path, 100)
    first = copies.open("ab" * 16, tmp_path / "a.png")
    kept = tmp_path / "ab" / f"{'ab' * 16}.png"
    kept.write_bytes(kept.read_bytes()[:900])
    assert copies.open("ab" * 16, tmp_path / "a.png").tobytes() == first.tobytes()
    with Image.open(kept) as copy:
        assert copy.tobytes() == first.tobytes()


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    image = smooth((2048, 1600))
    image.save(tmp_path / "a.jpg", quality=95)
    assert open_image(tmp_path / "a.jpg").size == (2048, 1600)
    assert open_image(tmp_path / "a.jpg", least_side=200).size == (256, 200)
    assert open_image(tmp_path / "a.jpg", least_side=201).size == (512, 400)
    small = ReducedImages(tmp_path / "c", 100).open("ab" * 16, tmp_path / "a.jpg")
    assert small.size == (128, 100)
    whole = reduce_image(open_image(tmp_path / "a.jpg"), 100)
    difference = np.asarray(small, dtype=float) - np.asarray(whole, dtype=float)
    assert np.abs(difference).max() <= 4  # of 255


def test_encoders_of_reduced_images_have_stores_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(6):
        smooth((80, 60), i).save(tmp_path / "images" / f"{i}.png")
    items = items_in(tmp_path / "images")
    plain = Pixels(dim=16)
    encode_items(items, plain, open_store(tmp_path / "s", plain), 4)
    vectors = []
    for side in (20, 20, 30):
        copies = ReducedImages.inside(tmp_path, side)
        assert copies is not None
        (small,) = reducing([PixelsAsPicture()], copies)
        store = open_store(tmp_path / "s", small)
        encode_items(items, small, store, 4)  # whoever embeds: the copies belong to the encoder
        vectors.append(store.read([item.item for item in items]))
        expected = plain.preprocess(copies.open(items[0].item, items[0].path))
        np.testing.assert_array_equal(vectors[-1][0], expected)
    names = [stored.encoder for stored in list_stores(tmp_path / "s", check=True).stores]
    assert names == ["pixels", "pixels (images of side 20)", "pixels (images of side 30)"]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert reducing([plain], ReducedImages.inside(tmp_path, 0)) == [plain]


class PixelsAsPicture(Pixels):
    """The same, its input a picture of 4 by 4."""

    def preprocess(self, image: Image.Image) -> np.ndarray:  # type: ignore[type-arg]
        return super().preprocess(image).reshape(1, 4, 4)  # type: ignore[no-any-return]

    def embed(self, inputs):  # type: ignore[no-untyped-def]
        return super().embed([each.reshape(16) for each in inputs])


def test_a_side_that_would_blur_the_models_input_is_refused(tmp_path: Path) -> None:
    encoder = load_encoder("timm:tf_efficientnet_lite0", "cpu")
    with pytest.raises(BadInput, match=r"looks at 224 x 224 pixels; a side of 200 would blur.*at least 224"):
        reducing([encoder], ReducedImages(tmp_path, 200))
    (small,) = reducing([encoder], ReducedImages(tmp_path, 224))
    assert small.fingerprint != encoder.fingerprint
    assert small.fingerprint != reducing([encoder], ReducedImages(tmp_path, 225))[0].fingerprint
    assert small.dim == 1280


def test_a_walk_over_images_does_not_find_the_copies(tmp_path: Path) -> None:
    for i in range(3):
        smooth((80, 60), i).save(tmp_path / f"{i}.png")
    for _ in range(2):
        items = items_in(tmp_path)
        assert len(items) == 3
        copies = ReducedImages.inside(tmp_path / "project", 20)
        (small,) = reducing([PixelsAsPicture()], copies)
        encode_items(items, small, open_store(tmp_path / "project" / "features", small), 4)
    assert len(list(tmp_path.rglob("*.png"))) == 6


def test_a_table_of_embeddings_has_no_images_to_reduce(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", feat=np.ones((1, 2)), name=np.array(["a.png"]))
    with pytest.raises(BadInput, match=r"opens no image.*side = 0"):
        reducing([load_encoder(f"features:{tmp_path}/t.npz")], ReducedImages(tmp_path, 100))
