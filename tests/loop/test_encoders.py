"""Frozen models give the vectors they should, the same ones each time; an archive is encoded once, whatever happens."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import timm
import torch
from dicom_files import RAMP, write_dicom
from encoder_refusals import refusal
from numpy.typing import NDArray
from PIL import Image
from pixels_encoder import Pixels, items_in, picture, write_pictures
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config  # type: ignore[attr-defined]

from annotate.interface import make_interface
from annotate.studio import Studio
from loop.encoders import Encoder, load_encoder
from loop.encoders.encode import encode_items
from loop.encoders.frozen import freeze
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.items import Item
from loop.serving import address_images
from loop.settings import Settings, load_settings

ARCH = "tiny-annotation-loop"  # an image tower of 8 by 8 patches, made for these tests
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session", autouse=True)
def tiny_architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("architectures")
    (folder / f"{ARCH}.json").write_text(json.dumps(TINY))
    (folder / f"{ARCH}-quickgelu.json").write_text(json.dumps(TINY | {"quick_gelu": True}))
    open_clip.add_model_config(folder)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network and an empty hub cache, as HF_HUB_OFFLINE=1 and HF_HUB_CACHE set them."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def embedded(encoder: Encoder, images: Sequence[Image.Image]) -> NDArray[np.float32]:
    return encoder.embed([encoder.preprocess(image) for image in images])


def tiny_clip(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return cast("torch.nn.Module", open_clip.create_model(ARCH, pretrained=None).eval())


def saved(model: torch.nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


@pytest.mark.cxr
def test_the_packaged_model_gives_the_published_vectors_of_real_x_rays(cxr: Path) -> None:
    """Against ``kermany_lite0_224.npz``, embeddings of the same files made elsewhere with the same weights."""
    with np.load(cxr / "kermany_lite0_224.npz") as table:
        given = {name: table[name] for name in ("feat", "name")}
    chosen = np.random.default_rng(0).choice(len(given["name"]), 8, replace=False)
    encoder = load_encoder("timm:tf_efficientnet_lite0", "cpu")
    assert encoder.dim == 1280
    with zipfile.ZipFile(cxr / "kermany_224.zip") as archive:
        held = {Path(name).name: name for name in archive.namelist()}
        images = [Image.open(io.BytesIO(archive.read(held[given["name"][i]]))).convert("L") for i in chosen]
    ours, theirs = embedded(encoder, images), given["feat"][chosen].astype(np.float32)  # (8, 1280)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.99
    again = load_encoder("timm:tf_efficientnet_lite0", "cpu")
    assert again.fingerprint == encoder.fingerprint
    assert embedded(again, images).tobytes() == ours.tobytes()


def test_a_timm_checkpoint_gives_the_models_own_pooled_features(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model("test_vit", pretrained=False).eval()
    path = saved(model, tmp_path / "model.safetensors")
    encoder = load_encoder(f"timm:test_vit@{path}", "cpu")
    transform = create_transform(**resolve_model_data_config(model), is_training=False)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        batch = torch.stack([transform(picture(i).convert("RGB")) for i in range(3)])
        expected = model.forward_head(model.forward_features(batch), pre_logits=True)  # type: ignore[operator]
    found = embedded(encoder, [picture(i) for i in range(3)])
    assert found.shape == (3, encoder.dim)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_open_clip_gives_the_models_own_encode_image(tmp_path: Path) -> None:
    model = tiny_clip()
    path = saved(model, tmp_path / "model.safetensors")
    encoder = load_encoder(f"open_clip:{ARCH}@{path}", "cpu")
    batch = torch.stack([encoder.preprocess(picture(i)) for i in range(3)])
    with torch.inference_mode():
        expected = model.encode_image(batch).numpy()  # type: ignore[operator]
    found = embedded(encoder, [picture(i) for i in range(3)])
    assert found.dtype == np.float32
    assert found.shape == (3, 16)
    assert encoder.dim == 16
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert embedded(encoder, [picture(i) for i in range(3)]).tobytes() == found.tobytes()
    again = load_encoder(f"open_clip:{ARCH}@{path}", "cpu")
    assert again.fingerprint == encoder.fingerprint
    assert embedded(again, [picture(i) for i in range(3)]).tobytes() == found.tobytes()


def test_a_batch_passes_a_cpu_in_parts_and_comes_out_whole_and_in_order(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model("test_vit", pretrained=False).eval()
    encoder = load_encoder(f"timm:test_vit@{saved(model, tmp_path / 'm.safetensors')}", "cpu")
    pictures = [picture(i) for i in range(11)]
    with torch.inference_mode():
        expected = encoder.forward(torch.stack([encoder.preprocess(image) for image in pictures]))  # type: ignore[attr-defined]
    np.testing.assert_allclose(embedded(encoder, pictures), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_cpu_never_computes_in_half_precision(tmp_path: Path) -> None:
    """Even if the weights were shipped so; and no autocast, which is for CUDA."""
    seen: list[Any] = []

    def forward(batch: torch.Tensor) -> torch.Tensor:
        seen.append((batch.dtype, torch.is_autocast_enabled("cpu"), model.weight.dtype))
        return model(batch.mean(dim=(2, 3)))  # type: ignore[no-any-return]

    model = torch.nn.Linear(3, 5).half()
    transform = lambda _: torch.ones(3, 8, 8)  # noqa: E731
    encoder = freeze("half", model, forward, transform, "half", "cpu")
    assert embedded(encoder, [picture(1)]).dtype == np.float32
    assert set(seen) == {(torch.float32, False, torch.float32)}


def test_grey_and_colour_of_equal_greys_give_the_same_vector(tmp_path: Path) -> None:
    encoder = load_encoder(f"open_clip:{ARCH}@{saved(tiny_clip(), tmp_path / 'm.safetensors')}", "cpu")
    a, b = embedded(encoder, [picture(1), picture(1).convert("RGB")])
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_fingerprint_knows_weights_preprocessing_and_kind_of_layers(tmp_path: Path) -> None:
    model = tiny_clip()
    path = saved(model, tmp_path / "a.safetensors")
    prints = {load_encoder(f"open_clip:{ARCH}@{path}", "cpu").fingerprint}
    prints.add(load_encoder(f"open_clip:{ARCH}-quickgelu@{path}", "cpu").fingerprint)  # equal weights
    with torch.no_grad():
        next(model.visual.parameters()).view(-1)[0] += 1e-3  # type: ignore[union-attr]
    prints.add(
        load_encoder(f"open_clip:{ARCH}@{saved(model, tmp_path / 'b.safetensors')}", "cpu").fingerprint
    )
    assert len(prints) == 3

    made = [
        freeze("any", model.visual, model.encode_image, lambda _: torch.zeros(3, 32, 32), about, "cpu")  # type: ignore[arg-type]
        for about in ("resize 32", "resize 32", "resize 33")
    ]
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint


def test_a_checkpoint_of_the_image_tower_alone_is_the_same_encoder_each_time(tmp_path: Path) -> None:
    """The text tower it lacks starts at random; it must not count."""
    model = tiny_clip()
    tower = {n: t.contiguous() for n, t in model.state_dict().items() if n.startswith("visual.")}
    save_file(tower, tmp_path / "tower.safetensors")
    whole = load_encoder(f"open_clip:{ARCH}@{saved(model, tmp_path / 'whole.safetensors')}", "cpu")
    for seed in (1, 2):
        torch.manual_seed(seed)
        assert load_encoder(f"open_clip:{ARCH}@{tmp_path}/tower.safetensors", "cpu").fingerprint == (
            whole.fingerprint
        )


def test_torch_files_of_plain_weights_are_read_and_their_wrappings_removed(tmp_path: Path) -> None:
    model = tiny_clip()
    spec = f"open_clip:{ARCH}@{saved(model, tmp_path / 'a.safetensors')}"
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "a.pt")
    assert load_encoder(f"open_clip:{ARCH}@{tmp_path}/a.pt", "cpu").fingerprint == (
        load_encoder(spec, "cpu").fingerprint
    )


def test_a_folder_in_place_of_a_checkpoint_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for family in ("timm:test_vit@", "chexzero:"):
        said = refusal(f"{family}{folder}")
        assert f"{folder} is a folder" in said
        assert "holds none (.safetensors, .pt" in said
        assert "Did you mean" not in said
    for name in ("b.pt", "a.safetensors", "config.json"):
        (folder / name).touch()
    (folder / "old.pt").mkdir()
    assert "Give one of those in it: a.safetensors, b.pt." in refusal(f"timm:test_vit@{folder}")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_thinks_of_a_pickles_protocol_is_not_printed_when_it_is_refused(
    tmp_path: Path, protocol: int
) -> None:
    """Warnings are errors here: one of torch's would be the reason told."""
    objects = {"weight": torch.zeros(2), "epochs": Path("three")}
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(objects, protocol))
    for new, name in ((True, "new.pt"), (False, "old.pt")):
        torch.save(objects, tmp_path / name, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    for path in tmp_path.glob("*.pt"):
        said = refusal(f"timm:test_vit@{path}")
        assert "besides plain weights" in said
        assert "pickle protocol" not in said


class Touches:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickled_object_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": Touches(tmp_path / "executed")}, tmp_path / "bad.pt")
    said = refusal(f"timm:test_vit@{tmp_path}/bad.pt")
    assert "holds pickled objects (" in said
    assert "safetensors" in said
    assert not (tmp_path / "executed").exists()
    torch.save(tiny_clip(), tmp_path / "model.pt")
    assert "holds pickled objects (open_clip.model.CLIP)" in refusal(f"open_clip:{ARCH}@{tmp_path}/model.pt")


def test_what_is_damaged_is_not_answered_with_a_permission(tmp_path: Path) -> None:
    """To allow a pickle would mend nothing, and is a risk that nobody should take for nothing."""
    torch.save({"weight": torch.ones(300)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for content in (
        b"",
        b"some words\n" * 30,
        b"\x89PNG\r\n" + bytes(90),
        whole[: len(whole) // 2],
        whole[:60],
    ):
        (tmp_path / "bad.pt").write_bytes(content)
        for allowed in ("", "bad.pt"):
            said = refusal(f"timm:test_vit@{tmp_path}/bad.pt", allow_pickle=allowed)
            assert "is damaged, or no checkpoint of torch" in said, content
            assert "allow_pickle" not in said


def test_a_program_of_torchscript_is_told(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    said = refusal(f"timm:test_vit@{tmp_path}/program.pt")
    assert "holds a program of TorchScript" in said
    assert 'allow_pickle = "program.pt"' in said


@pytest.mark.parametrize("family", ["timm:test_vit@", "open_clip:ViT-S-32@", "hf:", "chexzero:", "features:"])
def test_a_home_of_nobody_is_said(family: str) -> None:
    said = refusal(f"{family}~nobody-has-this-name/x.npz")
    assert "there is no user 'nobody-has-this-name' here" in said


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights here")
    assert "no safetensors file" in refusal(f"timm:test_vit@{tmp_path}/a.safetensors")
    torch.save([1, 2, 3], tmp_path / "list.pt")
    assert "no state dictionary" in refusal(f"timm:test_vit@{tmp_path}/list.pt")
    said = refusal(f"timm:test_vit@{tmp_path}/b.safetensors")
    assert "no checkpoint at" in said
    assert "Did you mean a.safetensors" in said


@pytest.mark.parametrize("spec", [f"open_clip:{ARCH}", "timm:test_vit"])
def test_weights_of_another_architecture_are_refused(tmp_path: Path, spec: str) -> None:
    save_file({"some.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert "belongs to another architecture" in refusal(f"{spec}@{tmp_path}/a.safetensors")


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in tiny_clip().state_dict().items()}
    weights["visual.positional_embedding"] = torch.zeros(50, 32)
    save_file(weights, tmp_path / "a.safetensors")
    said = refusal(f"open_clip:{ARCH}@{tmp_path}/a.safetensors")
    assert "visual.positional_embedding in shape (50, 32), but the model has (17, 32)" in said
    small = timm.create_model("test_vit", pretrained=False).state_dict()
    small["cls_token"] = torch.zeros(1, 1, 5)
    save_file({name: tensor.contiguous() for name, tensor in small.items()}, tmp_path / "b.safetensors")
    assert "cls_token in shape (1, 1, 5)" in refusal(f"timm:test_vit@{tmp_path}/b.safetensors")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tim:resnet50", "Did you mean timm:resnet50?"),
        ("openclip:ViT-B-32@openai", "Did you mean open_clip:ViT-B-32@openai?"),
        ("timm:", "names no encoder"),
        ("", "Examples: timm:tf_efficientnet_lite0"),
        ("timm:resnet5O", "Did you mean resnet50"),
        ("timm:resnet18.a9_in1k", "resnet18.a1_in1k"),
        ("timm:test_vit@/gone/model.safetensors", "no checkpoint at /gone/model.safetensors"),
        ("open_clip:ViT-B-23@openai", "Did you mean ViT-B-32"),
        ("open_clip:ViT-B-32@opnai", "Did you mean openai"),
        ("open_clip:ViT-B-32", "nothing is neither a checkpoint"),
        (f"open_clip:{ARCH}@/gone/model.safetensors", "it has none"),
    ],
)
def test_a_spec_that_names_nothing_is_answered_with_the_nearest_names(spec: str, said: str) -> None:
    assert said in refusal(spec)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert "Device 'cuda:99' cannot be used here" in refusal("timm:tf_efficientnet_lite0", "cuda:99")
    assert "Device 'gpu' cannot be used here" in refusal("timm:tf_efficientnet_lite0", "gpu")


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("open_clip:ViT-B-32@openai", "models--timm--vit_base_patch32_clip_224.openai"),
        ("open_clip:hf-hub:some/model", "models--some--model"),
    ],
)
def test_open_clip_weights_that_are_not_here_say_what_to_put_where(
    offline: Path, spec: str, place: str
) -> None:
    said = refusal(spec)
    assert str(offline / place) in said
    assert "open_clip.create_model(" in said


def test_timm_weights_that_are_not_here_say_what_to_put_where(offline: Path) -> None:
    said = refusal("timm:resnet18.a1_in1k")
    assert "cannot be fetched" in said
    assert "model.safetensors of timm/resnet18.a1_in1k" in said
    assert "timm:resnet18.a1_in1k@" in said


def test_timm_weights_that_lie_on_no_hub_are_not_fetched_offline(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm itself heeds HF_HUB_OFFLINE only where the weights lie on the hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    asked: list[str] = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, *_, **__: asked.append(url))
    said = refusal("timm:gcvit_xxtiny.in1k")
    url = timm.get_pretrained_cfg("gcvit_xxtiny.in1k").url
    assert asked == []
    assert "HF_HUB_OFFLINE is set" in said
    assert f"copy {url} here" in said
    assert f"timm:gcvit_xxtiny.in1k@/path/to/{Path(url).name}" in said
    model = timm.create_model("gcvit_xxtiny", pretrained=False)
    kept = tmp_path / "torch" / "hub" / "checkpoints" / Path(url).name
    kept.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), kept)
    assert load_encoder("timm:gcvit_xxtiny.in1k", "cpu").dim == model.num_features  # what is here is read


@pytest.fixture
def archive(tmp_path: Path) -> list[Item]:
    """Twenty pictures."""
    return items_in(write_pictures(tmp_path / "archive", 20))


def store_at(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder, "pixels", 16)


def test_an_archive_is_encoded_once_with_steady_progress(tmp_path: Path, archive: list[Item]) -> None:
    store, encoder, told = store_at(tmp_path / "s"), Pixels(), list[tuple[int, int]]()
    report = encode_items(archive, encoder, store, 8, lambda done, total: told.append((done, total)))
    assert (report.encoded, report.problems) == (20, ())
    assert encoder.batches == [8, 8, 4]
    assert told == [(0, 20), (8, 20), (16, 20), (20, 20)]
    for item in archive:
        expected = encoder.preprocess(Image.open(item.path))
        np.testing.assert_array_equal(store.read([item.item])[0], expected)
    told.clear()
    again = encode_items(archive, encoder, store, 8, lambda done, total: told.append((done, total)))
    assert again.encoded == 0
    assert encoder.batches == [8, 8, 4]
    assert told == [(20, 20)]


def test_encoding_goes_on_where_it_was_stopped_and_ends_with_the_same_bytes(
    tmp_path: Path, archive: list[Item]
) -> None:
    encode_items(archive, Pixels(), store_at(tmp_path / "clean"), 3)
    for batches in (2, 1):
        with pytest.raises(InterruptedError):
            encode_items(archive, Pixels(stop_after=batches), store_at(tmp_path / "stopped"), 3)
    store, told = store_at(tmp_path / "stopped"), list[int]()
    assert len(store) == 9
    report = encode_items(archive, Pixels(), store, 3, lambda done, _: told.append(done))
    assert report.encoded == 11
    assert told == [9, 12, 15, 18, 20]
    for name in ("vectors.f16", "items.bin", "commits.log"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()


def test_an_image_that_cannot_be_encoded_is_listed_and_left_out(tmp_path: Path, archive: list[Item]) -> None:
    broken, gone, black = archive[3], archive[7], archive[11]
    broken.path.write_bytes(broken.path.read_bytes()[:60])
    gone.path.unlink()
    Image.new("L", (8, 8)).save(black.path)
    store, told = store_at(tmp_path / "s"), list[int]()
    report = encode_items(archive, Pixels(), store, 4, lambda done, _: told.append(done))
    assert report.encoded == 17
    assert [path for path, _ in report.problems] == [str(i.path) for i in (broken, gone, black)]
    reasons = [reason for _, reason in report.problems]
    assert "truncated" in reasons[0]
    assert "No such file" in reasons[1]
    assert "not finite" in reasons[2]
    assert not any(path in reason for path, reason in report.problems[:1])  # the path is said once
    assert store.missing([i.item for i in archive]) == [i.item for i in (broken, gone, black)]
    assert told == [0, 4, 8, 12, 16, 20]


def test_a_batch_of_nothing_but_broken_images_is_no_trouble(tmp_path: Path, archive: list[Item]) -> None:
    for item in archive[:4]:
        item.path.write_bytes(b"")
    report = encode_items(archive, Pixels(), store_at(tmp_path / "s"), 2)
    assert (report.encoded, len(report.problems)) == (16, 4)


def test_damaged_rows_are_encoded_again(tmp_path: Path, archive: list[Item]) -> None:
    store = store_at(tmp_path / "s")
    encode_items(archive, Pixels(), store, 5)
    before = store.read([i.item for i in archive])
    with (tmp_path / "s" / "vectors.f16").open("r+b") as data:
        data.seek(5 * 32)
        data.write(b"\0" * 64)
    store = store_at(tmp_path / "s")
    assert store.verify().bad == ((5, 5),)
    told: list[int] = []
    assert encode_items(archive, Pixels(), store, 5, lambda done, _: told.append(done)).encoded == 5
    assert told == [15, 20]
    assert store.verify().bad == ()
    np.testing.assert_array_equal(store_at(tmp_path / "s").read([i.item for i in archive]), before)


STUDIO = Studio("http://127.0.0.1:9", "key")  # nobody listens there; an address needs no answer


def settings_of(folder: Path, label_studio: str) -> Settings:
    path = folder / "loop.toml"
    path.write_text(
        '[project]\nname = "served"\nfindings = ["Effusion"]\nfolder = "files/project"\n'
        f'[images]\nsource = "files/archive"\n[stop]\ntarget = 0.9\n[label_studio]\n{label_studio}\n'
    )
    return load_settings(path, {}, {})


def items_of(*paths: Path) -> list[Item]:
    return [Item(f"{n:032x}", path, f"p{n}", "active", None, {}) for n, path in enumerate(paths)]


def test_a_url_is_quoted_and_relative_to_the_images(tmp_path: Path) -> None:
    folder = tmp_path / "files" / "archive" / "ward 3"
    folder.mkdir(parents=True)
    picture(0).save(folder / "a#1&b=50%+ü.png")
    settings = settings_of(tmp_path, 'delivery = "url"\nurl_prefix = "https://images.example/x/"')
    items = items_of(folder / "a#1&b=50%+ü.png")
    told: list[tuple[int, int]] = []
    found = address_images(settings, STUDIO, 1, items, lambda done, total: told.append((done, total)))
    assert found == {items[0].item: "https://images.example/x/ward%203/a%231%26b%3D50%25%2B%C3%BC.png"}
    assert told == [(1, 1)]


def test_an_image_outside_the_served_folders_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "files" / "archive").mkdir(parents=True)
    outside, on_top = tmp_path / "outside.png", tmp_path / "files" / "top.png"
    for path in (outside, on_top):
        picture(0).save(path)
        with pytest.raises(BadInput, match=r"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.*upload"):
            address_images(
                settings_of(tmp_path, 'document_root = "files"'),
                STUDIO,
                1,
                items_of(path),
                lambda _done, _total: None,
            )
    with pytest.raises(BadInput, match=r'url_prefix gives it no address.*delivery = "upload"'):
        address_images(
            settings_of(tmp_path, 'delivery = "url"\nurl_prefix = "https://images.example"'),
            STUDIO,
            1,
            items_of(outside),
            lambda _done, _total: None,
        )


@pytest.mark.studio
def test_label_studio_shows_images_with_special_names_and_dicom_as_png(
    studio_server: Any, tmp_path: Path
) -> None:
    """A real server serves what the addresses say; a rendition is made once."""
    root = Path(studio_server.files_root)
    base = root / f"encoders-{tmp_path.name}"
    (base / "archive").mkdir(parents=True)
    plain = base / "archive" / "a #1&b=50%+ü.png"
    picture(0).save(plain)
    dicom = write_dicom(base / "archive" / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    path = base / "loop.toml"
    path.write_text(
        '[project]\nname = "served"\nfindings = ["Effusion"]\nfolder = "project"\n[images]\nsource = "archive"\n'
        f'[stop]\ntarget = 0.9\n[label_studio]\ndocument_root = "{root}"\n'
    )
    settings = load_settings(path, {}, {})
    studio = Studio(studio_server.url, studio_server.api_key)
    project_id = studio.create_project("served", make_interface(("Effusion",)).xml)
    items = items_of(plain, dicom)
    try:
        found = address_images(settings, studio, project_id, items, lambda _done, _total: None)
        assert list(found) == [i.item for i in items]
        rendition = settings.folder / "renditions" / f"{items[1].item}.png"
        assert Image.open(rendition).getpixel((0, 0)) == 255  # inverted
        made = rendition.stat().st_mtime_ns
        dicom_before = dicom.read_bytes()
        assert address_images(settings, studio, project_id, items, lambda _d, _t: None) == found
        assert rendition.stat().st_mtime_ns == made
        assert dicom.read_bytes() == dicom_before
        for address, shown in zip(found.values(), (plain, rendition), strict=True):
            answer = httpx.get(
                studio_server.url + address, headers={"Authorization": f"Token {studio_server.api_key}"}
            )
            assert answer.status_code == 200
            assert answer.content == shown.read_bytes()
    finally:
        shutil.rmtree(base)
