"""How near a picture is to its original: PSNR, SSIM and MS-SSIM of uint8 images, all through maintained libraries.

PSNR and SSIM (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5) need `pip install 'vae-jcc[quality]'`. MS-SSIM (Wang
et al. 2003, five scales) is TorchMetrics', which needs PyTorch (`pip install 'vae-jcc[msssim]'`), and images of at
least 176 pixels a side: halved four times, less would be left than its window.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SSIM_SIDE = 11  # of its window: the least side of an image, in pixels
MS_SSIM_SIDE = 176  # the library wants more than 10 whole pixels on a sixteenth of the side


def psnr(original: np.ndarray, image: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal images."""
    if np.array_equal(original, image):
        return math.inf  # the library divides by zero
    metrics = _scikit_image()
    return float(metrics.peak_signal_noise_ratio(original, image, data_range=255))


def ssim(original: np.ndarray, image: np.ndarray) -> float | None:
    """Returns the structural similarity of [H, W, C], mean over channels; None below 11 pixels a side."""
    if min(original.shape[:2]) < SSIM_SIDE:
        return None
    return float(
        _scikit_image().structural_similarity(
            original,
            image,
            data_range=255,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def ms_ssim(original: np.ndarray, image: np.ndarray) -> float | None:
    """Returns the multi-scale structural similarity of [H, W, C]; None where `why_no_ms_ssim` has a reason."""
    if why_no_ms_ssim(original.shape[:2]):
        return None
    from vae_jcc.benchmark.torch_systems import import_beside_torch

    measure = import_beside_torch("torchmetrics.functional.image").multiscale_structural_similarity_index_measure
    import torch

    pair = (torch.from_numpy(np.array(a)).permute(2, 0, 1)[None].double() for a in (image, original))
    return float(measure(*pair, data_range=255.0))


def why_no_ms_ssim(size: tuple[int, int]) -> str:
    """Returns why images of this size (H, W) have no MS-SSIM here, or ""."""
    if min(size) < MS_SSIM_SIDE:
        return f"its five scales need at least 176 pixels a side; these images have {size[0]}x{size[1]}"
    if importlib.util.find_spec("torchmetrics") is None:
        return "the optional library torchmetrics is not installed: pip install 'vae-jcc[msssim]'"
    return ""


@dataclass
class Tally:
    """Means over images, each of which counts once."""

    _psnr: list[float] = field(default_factory=list)
    _ssim: list[float] = field(default_factory=list)
    _ms_ssim: list[float] = field(default_factory=list)

    def add(self, originals: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> None:
        """Compares uint8 images [H, W, C] with their originals."""
        for original, image in zip(originals, images, strict=True):
            self._psnr.append(psnr(original, image))
            for values, value in ((self._ssim, ssim(original, image)), (self._ms_ssim, ms_ssim(original, image))):
                if value is not None:
                    values.append(value)

    def means(self) -> dict[str, float | int | None]:
        """Returns "psnr_db" (over images that differ from their original), "identical" (images that do not), "ssim" and
        "ms_ssim"; None where no image has the value."""
        finite = [value for value in self._psnr if math.isfinite(value)]
        return {
            "psnr_db": _mean(finite),
            "identical": len(self._psnr) - len(finite),
            "ssim": _mean(self._ssim),
            "ms_ssim": _mean(self._ms_ssim),
        }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _scikit_image() -> Any:
    try:
        from skimage import metrics
    except ImportError as error:
        raise ValueError("PSNR and SSIM need scikit-image: pip install 'vae-jcc[quality]'.") from error
    return metrics
