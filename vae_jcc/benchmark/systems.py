"""What can be measured side by side: our encoders, whole networks, other learned encoders, classical codecs.

Opening one loads the libraries of its kind and no others, so that a process that measures it has its memory alone.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["model", "config", "network", "torchvision", "compressai", "codec"]

CODEC_QUALITY = 10  # of JPEG and WebP: about the rate of the models that ship, and their fastest for that
NETWORKS = ("resnet18", "resnet34")  # in Flax, as our encoders are
TORCH_NETWORKS = ("resnet18_torch", "resnet34_torch")  # the same in PyTorch, which is faster on small grids
LEARNED = ("bmshj2018_factorized", "cheng2020_anchor")
CODECS = ("jpeg", "webp")
BASELINES = (*NETWORKS, *TORCH_NETWORKS, *LEARNED, *CODECS)


@dataclass(frozen=True)
class Spec:
    """Names a system to measure, at one size of image.

    Attributes:
        kind: "model" (an artifact), "config" (an encoder with random weights), or a baseline's.
        target: a zoo name or folder, a configuration's path, or one of BASELINES.
        size: (H, W) of the images in pixels.
        channels: of the images, 1 or 3.
        folder: of a "config": where `flax_systems.save_random` has put its artifact.
    """

    kind: Kind
    target: str
    size: tuple[int, int]
    channels: int
    folder: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is an encoder of this project, and no baseline."""
        return self.kind in ("model", "config")


@dataclass(frozen=True)
class System:
    """Something that takes images, ready to run.

    Attributes:
        name: for tables.
        output: what comes out for each image: "bytes" that can be sent, or "classes".
        weights: "trained", "random" (speed and size are the shape's; the bytes mean nothing), or "none".
        parameters: trained values that a device needs for it; batch statistics are not among them.
        weight_bytes: of parameters and batch statistics as they are held; coding tables are left out everywhere.
        macs: multiply-accumulates of convolutions and matrix products for one image; None where it has no network, or
            one that is not traced (a context model in integers).
        libraries: distributions whose versions belong with its figures.
        run: uint8 [B, H, W, C] to B results: bytes, or logits [B, K].
    """

    name: str
    output: Literal["bytes", "classes"]
    weights: Literal["trained", "random", "none"]
    parameters: int
    weight_bytes: int
    macs: int | None
    libraries: tuple[str, ...]
    run: Callable[[np.ndarray], Sequence[Any] | np.ndarray]


def baselines(names: Sequence[str], size: tuple[int, int], channels: int) -> list[Spec]:
    """Returns the baselines of these names, in their order.

    Raises:
        ValueError: a name is none of BASELINES.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ValueError(f"No baseline is called {unknown[0]!r}: choose among {', '.join(BASELINES)}.")
    return [Spec(_kind(name), name, size, channels) for name in names]


def _kind(baseline: str) -> Kind:
    groups: dict[Kind, tuple[str, ...]] = {"codec": CODECS, "compressai": LEARNED, "torchvision": TORCH_NETWORKS}
    return next((kind for kind, names in groups.items() if baseline in names), "network")


def open_system(spec: Spec) -> System:
    """Loads what `spec` names.

    Raises:
        ImportError: an optional library is missing; the message says which, and how to get it.
        ValueError: it cannot be opened, or does not take such images.
    """
    if spec.kind == "codec":
        return _codec(spec)
    if spec.kind in ("compressai", "torchvision"):
        from vae_jcc.benchmark import torch_systems

        return torch_systems.open_compressai(spec) if spec.kind == "compressai" else torch_systems.open_network(spec)
    from vae_jcc.benchmark import flax_systems

    return flax_systems.open_network(spec) if spec.kind == "network" else flax_systems.open_edge(spec)


def _codec(spec: Spec) -> System:
    from PIL import Image

    label = {"jpeg": "JPEG", "webp": "WebP"}[spec.target]
    # Optimized Huffman tables are what makes small JPEG files small; WebP has no such choice.
    options: dict[str, Any] = {"quality": CODEC_QUALITY} | ({"optimize": True} if spec.target == "jpeg" else {})

    def encode(image: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, label, **options)
        return file.getvalue()

    return System(
        name=f"{label} quality {CODEC_QUALITY} (Pillow)",
        output="bytes",
        weights="none",
        parameters=0,
        weight_bytes=0,
        macs=None,
        libraries=("pillow",),
        run=lambda images: [encode(image) for image in images],
    )
