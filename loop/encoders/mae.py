"""Checkpoints of masked autoencoders (MAE, RETFound and their kind): known by their layout, prepared as by their code.

He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022; Zhou et al., "A foundation model for generalizable
disease detection from retinal images" (RETFound), 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor


def is_mae(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights hold the decoder that masked pre-training leaves behind."""
    return "mask_token" in weights and "decoder_pos_embed" in weights


def make_transform(size: int) -> tuple[Callable[[Image.Image], torch.Tensor], str]:
    """The evaluation preprocessing of MAE's and RETFound's code, and a text that says it.

    Up to 224 pixels the centre of an image whose short side is 256/224 of the size, above it the centre square whole.
    """
    short = int(size / (224 / 256)) if size <= 224 else size
    transform = Compose(
        [
            Resize(short, interpolation=InterpolationMode.BICUBIC),
            CenterCrop(size),
            ToTensor(),
            Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ]
    )
    return transform, f"short side {short} bicubic, centre {size}, ImageNet mean and deviation"


KNOWN_BY = ("pos_embed", "no_embed_class", "num_prefix_tokens", "patch_embed")


def with_resized_table(weights: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Weights whose position table is interpolated, bicubic, to the grid of a vision transformer; others as they are.

    MAE's code does it without antialiasing, timm, for all other weights, with it.
    """
    table = weights.get("pos_embed")
    known = all(getattr(model, name, None) is not None for name in KNOWN_BY)
    if table is None or table.dim() != 3 or not known:
        return weights
    tokens = 0 if model.no_embed_class else int(model.num_prefix_tokens)
    if math.isqrt(table.shape[1] - tokens) ** 2 != table.shape[1] - tokens:
        return weights
    grid = list(model.patch_embed.grid_size)
    fitted = resample_abs_pos_embed(table, grid, num_prefix_tokens=tokens, antialias=not is_mae(weights))
    return {**weights, "pos_embed": fitted}


def size_of(model: Any) -> int:
    """Side of the images that a vision transformer of timm takes."""
    return int(model.patch_embed.img_size[0])
