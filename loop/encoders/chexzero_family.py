"""`chexzero:` checkpoints: OpenAI's CLIP ViT-B/32, trained on chest radiographs of grey values from 0 to 255.

Both towers: the texts pass through CLIP's own tokenizer, whose vocabulary open_clip brings.

Tiu et al., "Expert-level detection of pathologies from unannotated chest X-ray images via self-supervised learning",
Nature Biomedical Engineering 6, 2022; preprocessing as in their data_process.py and zero_shot.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from loop.encoders.frozen import FrozenEncoder, FrozenTextTower, freeze, freeze_text_tower
from loop.encoders.open_clip_family import say_tokenizer
from loop.encoders.weights import fill, read_weights
from loop.errors import BadInput, first_line
from loop.paths import expand_home

STORED = 320  # pixels of the images it was trained on, before they were resized for the model
MEAN, DEVIATION = 101.48761, 83.43944  # of their grey values
HEAD = 64  # dimensions of an attention head in every CLIP of OpenAI


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Fitted into a black square of 320 pixels, normalised on the scale of 0 to 255, resized to the model's input."""

    size: int

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Prepare an image: ``(3, size, size)``."""
        grey = image.convert("L")
        ratio = STORED / max(grey.size)
        width, height = (int(side * ratio) for side in grey.size)
        square = Image.new("L", (STORED, STORED))
        fitted = grey.resize((width, height), Image.Resampling.LANCZOS)
        square.paste(fitted, ((STORED - width) // 2, (STORED - height) // 2))
        pixels = torch.from_numpy(np.asarray(square, dtype=np.float32))[None]  # (1, 320, 320)
        normalised = (pixels - MEAN) / DEVIATION
        # torchvision 0.11, with which it was trained, resizes tensors without antialiasing.
        fit: torch.Tensor = resize(
            normalised, [self.size, self.size], InterpolationMode.BICUBIC, antialias=False
        )
        return fit.repeat(3, 1, 1)


def load_chexzero(spec: str, name: str, device: str, allow_pickle: str = "") -> FrozenEncoder:
    """Load a CheXzero checkpoint; its vector is the image embedding beside the text (512), not normalised.

    Args:
        spec: How it was asked for.
        name: The checkpoint, e.g. ``best_64_5e-05_original_22000_0.864.pt``.
        device: ``auto`` or a torch device.
        allow_pickle: Name of a checkpoint that may be loaded although it is a pickle.

    Raises:
        BadInput: There is no such file, or it is no CLIP of OpenAI's layout.
    """
    model, preprocessing, about = _load(name, allow_pickle)
    return freeze(spec, model.visual, model.encode_image, preprocessing, f"chexzero {about}", device)


def load_chexzero_text(spec: str, name: str, device: str, allow_pickle: str = "") -> FrozenTextTower:
    """Load a CheXzero checkpoint with its text tower and CLIP's tokenizer.

    Args:
        spec: How it was asked for.
        name: As for `load_chexzero`.
        device: ``auto`` or a torch device.
        allow_pickle: See `load_chexzero`.

    Raises:
        BadInput: As `load_chexzero`, or its vocabulary is another than CLIP's.
    """
    model, _, about = _load(name, allow_pickle)
    tokens = SimpleTokenizer(context_length=model.context_length)
    if model.vocab_size != tokens.vocab_size:
        raise BadInput(
            f"[encoder] spec = {spec!r}: no tokenizer is here for its texts. Its vocabulary has {model.vocab_size:,} tokens, "
            f'CLIP\'s {tokens.vocab_size:,}. Take a checkpoint of CheXzero, or set [batch] cold_start = "random".'
        )
    about = f"chexzero text {about} {say_tokenizer(tokens)}"
    return freeze_text_tower(model, model.encode_image, model.encode_text, tokens, about, device)


def _load(name: str, allow_pickle: str) -> tuple[Any, Preprocessing, str]:
    """Both towers, the preprocessing, and what it does."""
    path = expand_home(name)
    model, size = build_clip(read_weights(path, allow_pickle), path)
    return model, Preprocessing(size), f"{STORED} lanczos, {MEAN} {DEVIATION}, bicubic {size}"


def build_clip(weights: Mapping[str, torch.Tensor], path: Path) -> tuple[Any, int]:
    """A CLIP of the measures that its weights have, in float32, and the size of its images.

    Raises:
        BadInput: The weights are not laid out as OpenAI's.
    """
    needed = (
        "visual.conv1.weight",
        "visual.proj",
        "visual.positional_embedding",
        "text_projection",
        "ln_final.weight",
    )
    if lacking := [
        key for key in (*needed, "positional_embedding", "token_embedding.weight") if key not in weights
    ]:
        raise BadInput(
            f"{path} is no checkpoint of CheXzero: it lacks {lacking[0]}. It must hold a whole CLIP ViT in OpenAI's layout."
        )
    try:
        width, patch = weights["visual.conv1.weight"].shape[0], weights["visual.conv1.weight"].shape[-1]
        size = patch * round((len(weights["visual.positional_embedding"]) - 1) ** 0.5)
        text = len(weights["ln_final.weight"])
        model = open_clip.CLIP(
            embed_dim=weights["visual.proj"].shape[1],
            vision_cfg={
                "layers": _count(weights, "visual.transformer.resblocks."),
                "width": width,
                "head_width": HEAD,
                "patch_size": patch,
                "image_size": size,
            },
            text_cfg={
                "context_length": len(weights["positional_embedding"]),
                "vocab_size": len(weights["token_embedding.weight"]),
                "width": text,
                "heads": text // HEAD,
                "layers": _count(weights, "transformer.resblocks."),
            },
            quick_gelu=True,
        )
    except Exception as error:  # measures of any kind: whatever they lead open_clip to
        raise BadInput(
            f"{path} is no checkpoint of CheXzero: no CLIP has the measures of its weights ({first_line(error)})."
        ) from None
    fill(model, {key: held.float() for key, held in weights.items()}, path)
    return model.eval(), size


def _count(weights: Mapping[str, torch.Tensor], part: str) -> int:
    """How many blocks a transformer has."""
    return len({key.removeprefix(part).split(".")[0] for key in weights if key.startswith(part)})
