"""The classifier behind a codec sees what the codec left of the pixels that models code, at no other scale."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import quickstart
from vae_jcc.benchmark import references
from vae_jcc.benchmark.codecs import CODECS
from vae_jcc.benchmark.coded_source import AsEvaluated, CodedSource
from vae_jcc.benchmark.references import coded_training, make_evaluator, reference_config, without_bottleneck
from vae_jcc.data.errors import DataError
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import open_source

SIDE, MARGIN = 24, 4


@pytest.fixture
def photos(tmp_path):
    """Six noisy pictures of different sizes and two classes."""
    rng = np.random.default_rng(0)
    for i in range(6):
        folder = tmp_path / "photos" / ("ant", "bee")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + 3 * i, 52 - i, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return open_source(f"folder:{tmp_path / 'photos'}", "all")


@pytest.mark.parametrize("margin", [0, MARGIN])
def test_what_is_coded_is_what_an_encoder_sees_in_evaluation(photos, margin):
    seen = AsEvaluated(photos, SIDE, margin)
    assert seen.info.image_size == (SIDE, SIDE) and len(seen) == len(photos)
    (batch,) = eval_batches(photos, batch_size=len(photos), image_size=SIDE, margin=margin)
    np.testing.assert_array_equal(np.stack([seen[i]["image"] for i in range(len(seen))]), batch["image"])
    assert [seen[i]["label"] for i in range(len(seen))] == batch["label"].tolist()


def test_images_of_one_size_can_stay_as_they_are(photos):
    source = AsEvaluated(photos, SIDE, MARGIN)
    again = AsEvaluated(source, 0, MARGIN)
    np.testing.assert_array_equal(again[1]["image"], source[1]["image"])
    with pytest.raises(DataError, match="differ in size"):
        AsEvaluated(photos, 0, MARGIN)


def test_a_reference_looks_at_the_coded_pixels_themselves(photos, monkeypatch):
    config = quickstart.get_config()
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.dataset.image_size, config.dataset.eval_margin, config.eval.batch_size = SIDE, MARGIN, 8
    coded = CodedSource(AsEvaluated(photos, SIDE, MARGIN), CODECS["jpeg"], 20)
    looked_at = []

    def look(step, variables, batches, devices):
        looked_at.extend(image for batch in batches for image in batch["image"][batch["mask"] > 0])
        return {"n_images": len(looked_at), "top1": 0.0, "top5": 0.0}

    monkeypatch.setattr(references, "evaluate_batches", look)
    for reference in (
        reference_config(config, name="r", epochs=1, seed=0, image_size=SIDE),
        without_bottleneck(config),  # of the table that ends a training
    ):
        looked_at.clear()
        make_evaluator(reference, 2, 3)({"params": jnp.zeros(1)}, coded)
        np.testing.assert_array_equal(np.stack(looked_at), np.stack([coded[i]["image"] for i in range(len(coded))]))


def test_a_reference_starts_from_all_of_its_start(tmp_path):
    config = quickstart.get_config()
    config.init_from, config.init_parts = "cifar10", ("classifier",)
    reference = reference_config(config, name="r", epochs=1, seed=0, image_size=0, start=str(tmp_path))
    assert (reference.init_from, reference.init_parts) == (str(tmp_path), ("encoder", "classifier"))


def test_random_resized_crops_are_cut_before_they_are_coded(photos):
    """As the model's are, and at the scale at which the classifier is tested; what a codec leaves is not scaled."""
    config, codec = quickstart.get_config(), CODECS["jpeg"]
    config.dataset.image_size, config.dataset.crop_scale = SIDE, (0.3, 0.8)
    settings = {"batch_size": 6, "seed": 3, "image_size": SIDE, "crop_scale": (0.3, 0.8)}
    with (
        train_iterator(photos, **settings) as plain,
        train_iterator(coded_training(photos, codec, 20, config), **settings) as coded,
    ):
        for _ in range(2):
            before, after = next(plain), next(coded)
            wanted = [codec.decode(codec.compress(image, 20).data, 3) for image in before["image"]]
            np.testing.assert_array_equal(after["image"], np.stack(wanted))
            np.testing.assert_array_equal(after["label"], before["label"])
    config.dataset.crop_scale, config.dataset.margin = (), 2
    assert coded_training(photos, codec, 20, config).info.image_size == (SIDE + 4, SIDE + 4)
