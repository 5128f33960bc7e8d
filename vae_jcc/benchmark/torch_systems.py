"""PyTorch's side: CompressAI's learned image encoders and torchvision's ResNets (`pip install 'vae-jcc[compressai]'`).

The ResNets are here once more because XLA's convolutions are slow on CPUs where the grid is small: a comparison has to
be with the best that can be had.

Of an encoder, what is counted is all that encoding runs: of bmshj2018-factorized (Balle et al. 2018) the analysis net;
of cheng2020-anchor (Cheng et al. 2020) also its hyperprior and context networks, without which it has no bytes. Both in
their smallest published width (quality 1), with random weights: their speed and size are of interest here, not their
pictures.
"""

import importlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from vae_jcc.benchmark.systems import Spec, System

_ENCODING = {
    "bmshj2018_factorized": ("g_a",),
    "cheng2020_anchor": ("g_a", "h_a", "h_s", "context_prediction", "entropy_parameters"),
}
# As vae_jcc.inference bounds a batch; stated again because that module brings JAX into this process's memory.
_MAX_BATCH_PIXELS = 2**22


def import_compressai(name: str) -> ModuleType:
    """Imports a module of CompressAI, such as "zoo".

    Raises:
        ImportError: it, torch or torchvision is missing or cannot be loaded.
    """
    return import_beside_torch(f"compressai.{name}")


def import_beside_torch(name: str) -> ModuleType:
    """Imports a module of a library that imports torchvision, also where that does not fit torch's build.

    Raises:
        ImportError: it, torch or torchvision is missing or cannot be loaded.
    """
    try:
        import torch

        if torch.version.cuda is None:
            # A torchvision that was built for CUDA does not load its operators beside a CPU build of torch, and its
            # import then fails for want of their names. Nothing here uses them.
            operators = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        library = name.partition(".")[0]
        extra = "msssim" if library == "torchmetrics" else "compressai"
        raise ImportError(f"{library} cannot be used ({reason}): pip install 'vae-jcc[{extra}]'") from error


def open_compressai(spec: Spec) -> System:
    """Returns the encoder of one of its models: images in, bytes out, padded to whole cells as its examples do.

    Raises:
        ImportError: CompressAI is missing.
        ValueError: the images are grey: its models take colour only.
    """
    if spec.channels != 3:
        raise ValueError(f"CompressAI's models take images of 3 channels; these have {spec.channels}.")
    zoo = import_compressai("zoo")
    import torch
    from torch.nn.functional import pad

    torch.manual_seed(0)
    model = getattr(zoo, spec.target)(quality=1, pretrained=False).eval()
    model.update(force=True)
    parts = [getattr(model, part) for part in _ENCODING[spec.target]]
    height, width = spec.size
    cell = model.downsampling_factor
    padding = (0, -width % cell, 0, -height % cell)
    most = max(1, _MAX_BATCH_PIXELS // ((height + padding[3]) * (width + padding[1])))

    @torch.no_grad()
    def encode(images: np.ndarray) -> list[bytes]:
        coded: list[bytes] = []
        for start in range(0, len(images), most):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + most]))
            x = pad(x.permute(0, 3, 1, 2).float() / 255.0, padding, mode="replicate")
            strings = model.compress(x)["strings"]
            coded += [b"".join(parts) for parts in zip(*strings, strict=True)]
        return coded

    return System(
        name=f"{spec.target.replace('_', '-')} (CompressAI)",
        output="bytes",
        weights="random",
        parameters=sum(p.numel() for part in parts for p in part.parameters()),
        weight_bytes=sum(p.numel() * p.element_size() for part in parts for p in part.parameters()),
        macs=_count_macs(model, parts, (1, 3, height + padding[3], width + padding[1])),
        libraries=("torch", "compressai"),
        run=encode,
    )


def open_network(spec: Spec) -> System:
    """Returns torchvision's ResNet of random weights with its published stem: images in, logits out.

    Raises:
        ImportError: torch or torchvision is missing.
        ValueError: the images are grey: it takes colour only.
    """
    if spec.channels != 3:
        raise ValueError(f"torchvision's networks take images of 3 channels; these have {spec.channels}.")
    models = import_beside_torch("torchvision.models")
    import torch

    torch.manual_seed(0)
    name = spec.target.removesuffix("_torch")
    # PyTorch's kernels for CPUs like channels last best.
    model = getattr(models, name)().eval().to(memory_format=torch.channels_last)
    most = max(1, _MAX_BATCH_PIXELS // (spec.size[0] * spec.size[1]))

    @torch.inference_mode()
    def classify(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), most):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + most]))
            parts.append(model(x.permute(0, 3, 1, 2).float() / 255.0).numpy())  # still channels last
        return np.concatenate(parts)

    return System(
        name=f"{name.replace('resnet', 'ResNet-')} (PyTorch)",
        output="classes",
        weights="random",
        parameters=sum(p.numel() for p in model.parameters()),
        weight_bytes=sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())),
        macs=_count_macs(model, [model], (1, 3, *spec.size)),
        libraries=("torch", "torchvision"),
        run=classify,
    )


def _count_macs(model: Any, parts: list[Any], shape: tuple[int, ...]) -> int:
    """Returns the multiply-accumulates of the encoding parts in one pass of the whole model.

    Coding runs the context network position by position, which multiplies as much as one pass over all positions.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counted = 0
    handles = []
    counter = FlopCounterMode(display=False)

    def before(module: Any, _: Any) -> None:
        nonlocal counted
        counted -= counter.get_total_flops()

    def after(module: Any, _: Any, __: Any) -> None:
        nonlocal counted
        counted += counter.get_total_flops()

    for part in parts:
        handles += [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
    with torch.no_grad(), counter:
        model(torch.zeros(shape))
    for handle in handles:
        handle.remove()
    return counted // 2  # PyTorch counts a multiply-accumulate as two operations
