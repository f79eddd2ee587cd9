"""Checkpoints with random weights in the layouts in which models are published: what speed and memory do not depend on."""

from __future__ import annotations

from pathlib import Path

MARK = "@random"


def with_random_weights(spec: str, folder: Path) -> str:
    """`FAMILY:NAME@random` as a spec of a checkpoint of that architecture with random weights; other specs as they are.

    NAME is one of timm's, open_clip's or torchxrayvision's; for chexzero: an architecture of open_clip; for hf: rad-dino or
    siglip-base. `int8:` may stand before it.
    """
    if spec.startswith("int8:"):
        return f"int8:{with_random_weights(spec.removeprefix('int8:'), folder)}"
    if not spec.endswith(MARK):
        return spec
    family, _, name = spec.removesuffix(MARK).partition(":")
    if family == "hf":
        _write_hf(name, folder / name)
        return f"hf:{folder / name}"
    path = folder / f"{name}.safetensors"
    _write(_state(family, name), path)
    return f"chexzero:{path}" if family == "chexzero" else f"{family}:{name}@{path}"


def _state(family: str, name: str) -> dict:  # type: ignore[type-arg]
    import torch

    torch.manual_seed(0)
    if family == "timm":
        import timm

        return timm.create_model(name, pretrained=False).state_dict()
    if family in ("open_clip", "chexzero"):
        import open_clip

        return open_clip.create_model(name, pretrained=None).state_dict()
    if name.startswith("densenet"):
        import torchxrayvision

        return torchxrayvision.models.DenseNet().state_dict()
    import torchvision

    model = torchvision.models.resnet50(weights=None)
    model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return model.state_dict()


def _write(weights: dict, path: Path) -> None:  # type: ignore[type-arg]
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, path)


def _write_hf(name: str, folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    if name == "rad-dino":  # a DINOv2 ViT-B/14 at 518 pixels
        side = {"height": 518, "width": 518}
        transformers.Dinov2Model(transformers.Dinov2Config(image_size=518)).save_pretrained(folder)
        processor = transformers.BitImageProcessor(size={"shortest_edge": 518}, crop_size=side)
    else:
        transformers.SiglipVisionModel(transformers.SiglipVisionConfig()).save_pretrained(folder)
        processor = transformers.SiglipImageProcessor(size={"height": 224, "width": 224})
    processor.save_pretrained(folder)
