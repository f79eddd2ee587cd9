"""torchxrayvision and CheXzero: grey values as these models were trained on, files in their published layout."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
import torchvision
from encoder_refusals import Trap, refusal
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize

from loop.encoders import load_encoder
from loop.encoders.catalogue import XRV_FOLDER
from loop.encoders.xrv_family import Preprocessing, _library
from loop.errors import BadInput

xrv = _library()
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
    for seed, shape in enumerate([(300, 411), (240, 190), (224, 224)])
]
DENSE, RESIDUAL = "densenet121-res224-all", "resnet50-res512-all"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without weights, and no network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "home" / XRV_FOLDER.relative_to("~")


@pytest.fixture(scope="module")
def dense() -> Any:
    torch.manual_seed(0)
    return xrv.models.DenseNet().eval()


def place(folder: Path, name: str) -> Path:
    """Where the library looks for a model's weights."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / xrv.models.model_urls[name]["weights_url"].rsplit("/", 1)[-1]


def reference(picture: Image.Image, side: int) -> torch.Tensor:
    """The library's own preprocessing."""
    pixels = xrv.datasets.normalize(np.asarray(picture), 255)[None]
    made = xrv.datasets.XRayResizer(side)(xrv.datasets.XRayCenterCrop()(pixels))
    return torch.from_numpy(made)


def test_the_densenet_gives_the_librarys_own_vector_of_its_own_pixels(home: Path, dense: Any) -> None:
    path = place(home, DENSE)
    torch.save(dense, path)  # a pickled whole model, as it is published
    encoder = load_encoder(f"torchxrayvision:{DENSE}", "cpu", path.name)
    assert encoder.dim == 1024
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    for found, picture in zip(inputs, PICTURES, strict=True):
        assert torch.equal(found, reference(picture, 224))
        assert -1024 <= float(found.min()) < 0 < float(found.max()) <= 1024
    theirs = xrv.models.DenseNet(weights=DENSE, cache_dir=str(home))
    with torch.inference_mode():
        expected = theirs.features2(torch.stack(inputs)).numpy()
    found = encoder.embed(inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    again = load_encoder(f"torchxrayvision:{DENSE}", "cpu", path.name)
    assert again.fingerprint == encoder.fingerprint
    assert again.embed(inputs).tobytes() == found.tobytes()


def test_an_image_of_any_size_becomes_the_librarys_own_pixels() -> None:
    rng = np.random.default_rng(0)
    for side in (100, 223, 224, 225, 256, 301, 447, 448, 512, 1000, 2048):
        picture = Image.fromarray(rng.integers(0, 256, (side, side + side % 3), dtype=np.uint8))
        for size in (224, 512):
            assert torch.equal(Preprocessing(size)(picture.convert("RGB")), reference(picture, size)), side


def test_the_resnet_gives_the_librarys_own_vector_of_its_own_pixels(home: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None, num_classes=18)
    model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    torch.save(model.state_dict(), place(home, RESIDUAL))  # plain weights: no permission is needed
    encoder = load_encoder(f"torchxrayvision:{RESIDUAL}", "cpu")
    assert encoder.dim == 2048
    inputs = [encoder.preprocess(picture) for picture in PICTURES[:2]]
    assert torch.equal(inputs[0], reference(PICTURES[0], 512))
    theirs = xrv.models.ResNet(weights=RESIDUAL, cache_dir=str(home))
    with torch.inference_mode():
        expected = theirs.features(torch.stack(inputs)).numpy()
    np.testing.assert_allclose(encoder.embed(inputs), expected, rtol=1e-4, atol=1e-5)


def test_a_pickled_model_is_loaded_only_if_its_file_is_allowed_by_name(home: Path, dense: Any) -> None:
    path = place(home, DENSE)
    torch.save(dense, path)
    for allowed in ("", "other.pt", str(path)):
        said = refusal(f"torchxrayvision:{DENSE}", allow_pickle=allowed)
        assert "can run any code" in said
        assert f'allow_pickle = "{path.name}"' in said
    whole = load_encoder(f"torchxrayvision:{DENSE}", "cpu", path.name)
    plain = home / "plain.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in dense.state_dict().items()}, plain)
    assert load_encoder(f"torchxrayvision:{DENSE}@{plain}", "cpu").fingerprint == whole.fingerprint


def test_only_what_is_allowed_by_name_is_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "a.pt")
    for spec in (
        f"torchxrayvision:{DENSE}@{tmp_path}/a.pt",
        f"chexzero:{tmp_path}/a.pt",
        f"timm:test_vit@{tmp_path}/a.pt",
    ):
        assert 'allow_pickle = "a.pt"' in refusal(spec, allow_pickle="b.pt")
    assert not (tmp_path / "sprung").exists()
    assert "no state dictionary" in refusal(f"chexzero:{tmp_path}/a.pt", allow_pickle="a.pt")
    assert (tmp_path / "sprung").exists()
    (tmp_path / "c.pt").write_bytes(b"\x80no pickle at all.")
    assert "cannot be unpickled" in refusal(f"chexzero:{tmp_path}/c.pt", allow_pickle="c.pt")


def test_weights_that_are_not_here_say_what_goes_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(f"torchxrayvision:{DENSE}")
    url = xrv.models.model_urls[DENSE]["weights_url"]
    assert f"copy {url} to {place(home, DENSE)}" in said
    assert f'allow_pickle = "{place(home, DENSE).name}"' in said
    assert "HF_HUB_OFFLINE is set" in refusal(f"torchxrayvision:{RESIDUAL}")
    assert "HF_HUB_OFFLINE is set" in refusal(
        f"torchxrayvision:{DENSE}", allow_pickle=place(home, DENSE).name
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setitem(xrv.models.model_urls[RESIDUAL], "weights_url", "http://127.0.0.1:9/x-state.pt")
    assert "cannot be fetched" in refusal(f"torchxrayvision:{RESIDUAL}")


@pytest.fixture
def release(tmp_path: Path) -> Iterator[str]:
    """A server that holds a release's files; its address."""
    folder = tmp_path / "release"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_weights_are_fetched_once_into_the_librarys_own_folder(
    home: Path,
    tmp_path: Path,
    release: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = torchvision.models.resnet50(weights=None, num_classes=18)
    model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    torch.save(model.state_dict(), tmp_path / "release" / "x-state.pt")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setitem(xrv.models.model_urls[RESIDUAL], "weights_url", f"{release}/x-state.pt")
    first = load_encoder(f"torchxrayvision:{RESIDUAL}", "cpu")
    (tmp_path / "release" / "x-state.pt").unlink()
    assert load_encoder(f"torchxrayvision:{RESIDUAL}", "cpu").fingerprint == first.fingerprint
    assert (home / "x-state.pt").is_file()
    assert capsys.readouterr().out == ""  # --json stays JSON


@pytest.mark.parametrize("broken", [ConnectionError("reset"), KeyboardInterrupt()])
def test_a_download_that_broke_off_leaves_nothing_that_looks_like_weights(
    home: Path, monkeypatch: pytest.MonkeyPatch, broken: BaseException
) -> None:
    """As by the library's versions that write in place."""

    def break_off(_url: str, filename: str) -> None:
        Path(filename).write_bytes(b"half of it")
        raise broken

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(xrv.utils, "download", break_off)
    with pytest.raises(BadInput if isinstance(broken, OSError) else KeyboardInterrupt):
        load_encoder(f"torchxrayvision:{RESIDUAL}", "cpu")
    assert list(home.iterdir()) == []


def test_a_model_that_does_not_exist_or_a_library_that_is_not_installed_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "Did you mean densenet121-res224-all" in refusal("torchxrayvision:densenet121-res224-al")
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    assert "pip install 'annotation-loop[xrv]'" in refusal(f"torchxrayvision:{DENSE}")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_file({"features.conv0.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "a.safetensors")
    for name in (DENSE, RESIDUAL):
        assert "another architecture" in refusal(f"torchxrayvision:{name}@{tmp_path}/a.safetensors")


def test_importing_the_library_leaves_warnings_as_they_were() -> None:
    """It silences all warnings for good when it is imported."""
    program = (
        "import warnings, skimage\nfrom loop.encoders.xrv_family import Preprocessing, _library\n"
        "_library()\nassert not [f for f in warnings.filters if f[:3] == ('ignore', None, Warning)]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def tiny_clip(seed: int = 0) -> Any:
    """A CLIP of OpenAI's layout, small; CheXzero's differs in its measures only."""
    torch.manual_seed(seed)
    return open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"layers": 2, "width": 64, "head_width": 64, "patch_size": 32, "image_size": 224},  # type: ignore[arg-type]
        text_cfg={"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1},  # type: ignore[arg-type]
        quick_gelu=True,
    ).eval()


def fitted(picture: Image.Image, size: int = 320) -> np.ndarray[Any, Any]:
    """An image as CheXzero stores it: long side 320, on black (their data_process.py)."""
    colour = picture.convert("RGB")
    ratio = float(size) / max(colour.size)
    made = colour.resize(tuple(int(side * ratio) for side in colour.size), Image.Resampling.LANCZOS)  # type: ignore[arg-type]
    square = Image.new("L", (size, size))
    square.paste(made.convert("L"), ((size - made.size[0]) // 2, (size - made.size[1]) // 2))
    return np.asarray(square, dtype=np.float32)


def test_chexzero_sees_grey_values_from_0_to_255_as_it_was_trained(tmp_path: Path) -> None:
    """Against their zero_shot.py: the statistics first, then the resizing of a tensor, in torchvision 0.11."""
    model = tiny_clip()
    path = tmp_path / "best_64_5e-05_original_22000_0.864.pt"
    torch.save(model.state_dict(), path)
    encoder = load_encoder(f"chexzero:{path}", "cpu")
    their_transform = Compose(
        [
            Normalize((101.48761,) * 3, (83.43944,) * 3),
            Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=False),
        ]
    )
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    batch = torch.stack(
        [their_transform(torch.from_numpy(np.repeat(fitted(p)[None], 3, axis=0))) for p in PICTURES]
    )
    torch.testing.assert_close(torch.stack(inputs), batch, rtol=0, atol=1e-5)
    with torch.inference_mode():
        expected = model.encode_image(batch).numpy()
    found = encoder.embed(inputs)
    assert found.shape == (3, 16)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    again = load_encoder(f"chexzero:{path}", "cpu")
    assert again.fingerprint == encoder.fingerprint
    assert again.embed(inputs).tobytes() == found.tobytes()


def test_a_checkpoint_that_is_no_chexzero_is_refused(tmp_path: Path) -> None:
    held = tiny_clip().state_dict()
    torch.save({name: held[name] for name in held if name != "visual.proj"}, tmp_path / "a.pt")
    assert "lacks visual.proj" in refusal(f"chexzero:{tmp_path}/a.pt")
    for key in ("ln_final.weight", "visual.conv1.weight"):  # no whole number of heads of 64; no width at all
        torch.save(held | {key: torch.zeros(32 if key == "ln_final.weight" else ())}, tmp_path / "d.pt")
        assert "no CLIP has the measures of its weights" in refusal(f"chexzero:{tmp_path}/d.pt")
    del held["visual.transformer.resblocks.1.mlp.c_fc.weight"]
    torch.save(held, tmp_path / "b.pt")
    assert "lacks 1 weights of the model" in refusal(f"chexzero:{tmp_path}/b.pt")
    assert "no checkpoint at" in refusal(f"chexzero:{tmp_path}/c.pt")
