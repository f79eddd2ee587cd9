"""Images a second and peak memory of encoding, against the bare forward pass of the same model in the same run.

    python benchmarks/bench_encode.py images.zip                       # a model of each family
    python benchmarks/bench_encode.py images.zip --images 512 timm:tf_efficientnet_lite0 timm:resnet50@random

"Encoding" is all that `loop encode` does after hashing: decode, resize, embed, commit to the store with syncs. "Bare" is the
forward pass alone, on one batch that was prepared beforehand, at the size in which encoding passes it. The two take turns; the
table has the median of the rounds and of their ratios, so that what else the machine does falls on both. Of int8: models the
bare pass is the float model's. The ratio of processor time counts what decoding costs even where it runs beside the model.
NAME@random has random weights. Each model runs in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from random_weights import with_random_weights

SPECS = (
    "timm:tf_efficientnet_lite0",
    "timm:resnet50@random",
    "open_clip:ViT-B-32@random",
    "hf:siglip-base@random",
    "hf:rad-dino@random",
    "torchxrayvision:densenet121-res224-all@random",
    "chexzero:ViT-B-32-quickgelu@random",
    "int8:open_clip:ViT-B-32@random",
    "int8:hf:siglip-base@random",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder, zip file or manifest of images")
    parser.add_argument("specs", nargs="*", default=list(SPECS))
    parser.add_argument("--images", type=int, default=256, help="images a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto", help="one: the bare pass runs on one")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0 = as torch likes")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_intermixed_args()
    if asked.one:
        one(asked)
        return
    print(f"{asked.rounds} rounds of {asked.images} images, batches of {asked.batch}, device {asked.device}")
    print(
        "| family | model | input | vector | images/s | bare images/s | ratio (all rounds) | of processor time | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    shared = [a for a in sys.argv[1:] if a not in asked.specs]
    for spec in asked.specs:
        subprocess.run([sys.executable, __file__, *shared, spec, "--one"], check=True)


def one(asked: argparse.Namespace) -> None:
    import torch

    from loop.encoders.devices import load_on_devices
    from loop.encoders.embed import here
    from loop.encoders.encode import encode_items
    from loop.images import open_image
    from loop.pictures import find_pictures, hash_pictures
    from loop.stores import open_store

    if asked.threads:
        torch.set_num_threads(asked.threads)
    spec = asked.specs[0]
    with tempfile.TemporaryDirectory() as folder:
        encoders = load_on_devices(with_random_weights(spec, Path(folder)), asked.device)
        encoder = encoders[0]
        floats = encoder.model if spec.startswith("int8:") else encoder
        pictures, _ = hash_pictures(find_pictures(asked.source)[: asked.images], lambda done, of: None)
        inputs = [encoder.preprocess(open_image(p.path)) for p in pictures[: asked.batch]]
        batch = torch.stack(inputs).to(floats.device)  # (batch, 3, h, w)
        n_batches = -(-len(pictures) // asked.batch)
        apart = ThreadPoolExecutor(1)  # as encoding computes: memory is dearer to allocate in the main thread
        apart.submit(bare, floats, batch, 1).result()
        bare_s, encoding_s, cpu_ratios = [], [], []
        for number in range(asked.rounds):
            store = open_store(Path(folder) / str(number), encoder)
            before, bare_total_s = time.process_time(), apart.submit(bare, floats, batch, n_batches).result()
            bare_s.append(bare_total_s / (n_batches * len(batch)))
            between, started = time.process_time(), time.perf_counter()
            report = encode_items(pictures, encoder, store, asked.batch, workers=here(encoders))
            encoding_s.append((time.perf_counter() - started) / report.encoded)
            bare_cpu_s = (between - before) / (n_batches * len(batch))
            cpu_ratios.append(bare_cpu_s / ((time.process_time() - between) / report.encoded))
    ratios = sorted(b / e for b, e in zip(bare_s, encoding_s, strict=True))
    family, _, model = spec.partition(":")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {family} | {model} | {batch.shape[-2]} x {batch.shape[-1]} | {encoder.dim:,} "
        f"| {1 / statistics.median(encoding_s):,.1f} | {1 / statistics.median(bare_s):,.1f} "
        f"| {statistics.median(ratios):.2f} ({', '.join(f'{r:.2f}' for r in ratios)}) "
        f"| {statistics.median(cpu_ratios):.2f} | {peak:,.0f} |",
        flush=True,
    )


def bare(encoder, batch, n: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds of n forward passes; the vectors are brought back, as encoding must."""
    import torch

    from loop.encoders.frozen import CPU_BATCH

    kind = encoder.device.type
    parts = batch.split(CPU_BATCH) if kind == "cpu" else (batch,)
    started = time.perf_counter()
    with torch.inference_mode(), torch.autocast(kind, enabled=kind == "cuda"):
        for part in n * parts:
            encoder.forward(part).float().cpu()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
