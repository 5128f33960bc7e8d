import importlib.util
import json
import math

import numpy as np
import pytest

from vae_jcc.benchmark import quality

pytest.importorskip("skimage")


def test_equal_images(pictures):
    assert quality.psnr(pictures[0], pictures[0]) == math.inf
    assert quality.ssim(pictures[0], pictures[0]) == pytest.approx(1.0)


def test_psnr_of_one_step_everywhere():
    black = np.zeros((12, 12, 3), np.uint8)
    assert quality.psnr(black, black + 1) == pytest.approx(20 * math.log10(255))


def test_ssim_falls_with_noise_and_needs_its_window(pictures, rng):
    noise = rng.integers(-20, 21, pictures[0].shape)
    noisy = np.clip(pictures[0] + noise, 0, 255).astype(np.uint8)
    assert 0.3 < quality.ssim(pictures[0], noisy) < 0.999
    assert quality.ssim(pictures[0][:10], noisy[:10]) is None


def test_means_leave_out_images_equal_to_their_originals(pictures):
    tally = quality.Tally()
    tally.add([pictures[0], pictures[1] // 2], [pictures[0], pictures[1] // 2 + 1])
    means = tally.means()
    assert means["identical"] == 1
    assert means["psnr_db"] == pytest.approx(20 * math.log10(255))
    assert means["ms_ssim"] is None
    alone = quality.Tally()
    alone.add(pictures, pictures)
    assert json.loads(json.dumps(alone.means(), allow_nan=False))["psnr_db"] is None


def test_ms_ssim_needs_176_pixels():
    assert "176" in quality.why_no_ms_ssim((175, 500))
    assert quality.ms_ssim(np.zeros((175, 500, 3), np.uint8), np.zeros((175, 500, 3), np.uint8)) is None


@pytest.mark.filterwarnings("ignore")
def test_ms_ssim_of_equal_and_of_noisy_images(rng):
    if importlib.util.find_spec("torchmetrics") is None:
        pytest.skip("torchmetrics is not installed")
    image = rng.integers(0, 256, (22, 22, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    noisy = np.clip(image + rng.integers(-40, 41, image.shape), 0, 255).astype(np.uint8)
    assert quality.ms_ssim(image, image) == pytest.approx(1.0)
    assert 0.3 < quality.ms_ssim(image, noisy) < 0.999
