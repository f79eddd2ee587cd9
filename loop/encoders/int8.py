"""`int8:` encoders: a transformer of another family with 8-bit weights, for CPUs; and how near its vectors are to float."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.encoders import Encoder, load_encoder
from loop.errors import BadInput, first_line

FAR = 0.9  # a median cosine about the mean below this is another model


@dataclass(frozen=True, slots=True)
class Int8Encoder:
    """An encoder whose linear layers multiply 8-bit integers, run by ONNX Runtime on the CPU.

    Attributes:
        spec: How it was asked for.
        fingerprint: Hash of the float model's fingerprint and of the int8 graph with its weights.
        model: The same model in float; it prepares the images.
        session: ONNX Runtime's, for one image.
    """

    spec: str
    fingerprint: str
    model: Encoder
    session: Any

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.model.dim

    def preprocess(self, image: Image.Image) -> Any:
        """Bring an image into the model's input, a tensor of shape ``(channels, height, width)``."""
        return self.model.preprocess(image)

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of preprocessed images, shape ``(n, dim)``.

        Each passes alone: inputs of a layer are scaled together, and a vector must not depend on its neighbours.
        """
        vectors = [
            self.session.run(None, {"image": image[None].numpy()})[0] for image in inputs
        ]  # (1, d) each
        return np.asarray(np.concatenate(vectors), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near the vectors of an int8 model are to those of its float model.

    Attributes:
        n: Images compared.
        cosine: Median cosine between the two vectors of an image.
        lowest: The lowest of them.
        spread_cosine: Median cosine after the mean vector of the float model was taken off both: what images share
            makes the plain cosine look better than a probe will find it. None where all float vectors are equal.
    """

    n: int
    cosine: float
    lowest: float
    spread_cosine: float | None

    def __str__(self) -> str:
        """A sentence for people."""
        told = f"int8 against float on {self.n} images: cosine {self.cosine:.4f}, lowest {self.lowest:.4f}"
        if self.spread_cosine is None:
            return f"{told}."
        told += f"; {self.spread_cosine:.3f} after their mean is taken off"
        if self.spread_cosine >= FAR:
            return f"{told}."
        return f"{told}. That is far: compare the two by `loop encoders compare` before you rely on it."


def load_int8(spec: str, name: str, device: str, allow_pickle: str = "") -> Int8Encoder:
    """Load a transformer of another family and make its linear layers int8; takes up to a minute.

    Measured on a CPU without VNNI: about twice the images a second of float. Convolutions stay float, because int8
    made them slower and their vectors useless (cosine .3 for EfficientNet-Lite0), so models made of them are refused.

    Args:
        spec: How it was asked for.
        name: Spec of the float model.
        device: ``auto`` or ``cpu``.
        allow_pickle: See `load_encoder`.

    Raises:
        BadInput: ONNX Runtime is not installed, another device was asked for, or the model cannot be made int8.
    """
    if device not in ("auto", "cpu"):
        raise BadInput(
            f'[encoder] spec = {spec!r} runs on a CPU, and device = {device!r}: take int8: off, or set device = "cpu".'
        )
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError:
        raise BadInput(
            f"[encoder] spec = {spec!r} needs ONNX Runtime: pip install 'annotation-loop[int8]'."
        ) from None
    import torch

    from loop.encoders.frozen import FrozenEncoder

    model = None if name.startswith("int8:") else load_encoder(name, "cpu", allow_pickle)
    if not isinstance(model, FrozenEncoder):
        raise BadInput(f"[encoder] spec = {spec!r}: there is no float model behind {name} to make int8.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, _silence():
        try:
            path = _quantized(model, Path(folder))
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except BadInput:
            raise
        except Exception as error:  # torch.export and ONNX Runtime raise whatever the model leads them to
            raise BadInput(
                f"{name} cannot be made int8 ({first_line(error)}). Use it without int8:."
            ) from None
        fingerprint = _fingerprint_of(model.fingerprint, path)
    return Int8Encoder(spec, fingerprint, model, session)


def measure_nearness(ours: NDArray[np.float32], floats: NDArray[np.float32]) -> Nearness:
    """Compare vectors of the same images.

    Args:
        ours: The int8 model's, shape ``(n, d)``.
        floats: The float model's, shape ``(n, d)``.
    """
    plain = _cosines(ours, floats)  # (n,)
    mean = floats.mean(axis=0)  # (d,)
    differ = bool(np.ptp(floats, axis=0).any())
    spread = float(np.median(_cosines(ours - mean, floats - mean))) if differ else None
    return Nearness(len(ours), float(np.median(plain)), float(plain.min()), spread)


def _cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each pair of rows, shape ``(n,)``; 0 where one of them has no length."""
    lengths = np.linalg.norm(ours, axis=1).astype(float) * np.linalg.norm(theirs, axis=1)  # (n,)
    products = np.einsum("nd,nd->n", ours.astype(float), theirs.astype(float))
    cosines: NDArray[np.float64] = np.divide(products, lengths, out=np.zeros(len(ours)), where=lengths > 0)
    return cosines


def _quantized(model: Any, folder: Path) -> Path:
    """Write a frozen encoder's model as ONNX with int8 linear layers."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    float_path, path = folder / "float.onnx", folder / "int8.onnx"
    example = model.preprocess(Image.new("RGB", (64, 64)))[None]  # (1, c, h, w)
    with torch.no_grad():
        torch.onnx.export(
            _as_module(model),
            (example,),
            float_path,
            input_names=["image"],
            output_names=["vector"],
            dynamo=True,
            external_data=True,
            verbose=False,
        )
    linear, convolved = _weights(float_path)
    if linear <= convolved:
        raise BadInput(
            f"{model.spec} has {convolved:,} weights in convolutions and {linear:,} in linear layers. int8: is for models "
            "that are mostly linear layers, as transformers are; of others it makes slower ones with useless vectors. Use "
            "this one without it."
        )
    quantize_dynamic(
        float_path,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,  # 7 bits: the eighth would overflow 16-bit sums on CPUs without VNNI, and give other vectors
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
        extra_options={"MatMulConstBOnly": True},
    )
    return path


def _fingerprint_of(model: str, path: Path) -> str:
    """Hash a float model's fingerprint and the graph that runs, with its weights: equal hashes give equal vectors."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    del graph.metadata_props[:]
    for node in graph.node:  # where in the code it comes from
        del node.metadata_props[:]
    for value in (*graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del value.metadata_props[:]
    digest = hashlib.sha256(model.encode() + graph.SerializeToString(deterministic=True))
    for file in sorted(path.parent.glob(f"{path.name}?*")):  # its weights, beside it
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _weights(path: Path) -> tuple[int, int]:
    """How many weights a graph has in linear layers, and in convolutions."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    linear, convolved = (
        sum(sizes.get(name, 0) for node in graph.node if node.op_type in kinds for name in node.input)
        for kinds in (("MatMul", "Gemm"), ("Conv",))
    )
    return linear, convolved


def _as_module(model: Any) -> Any:
    """A frozen encoder's forward pass as a module that holds its weights."""
    import torch

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = model.model

        def forward(self, image: Any) -> Any:
            return model.forward(image)

    return Traced()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's and the quantizer's advice to their developers off the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
