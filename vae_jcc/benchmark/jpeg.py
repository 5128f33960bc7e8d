"""JPEG followed by a classifier, at the one rate that the quickstart's table needs.

The classifier is the same network (encoder and classifier without the bottleneck), trained on the decoded JPEG images
themselves, so that the baseline gets its best. `vae-jcc bench rate-accuracy` has whole curves and more codecs.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jcc.benchmark.codecs import CODECS
from vae_jcc.benchmark.coded_source import AsEvaluated, CodedSource, Sample
from vae_jcc.benchmark.references import coded_training, make_evaluator, train_reference, without_bottleneck
from vae_jcc.data.sources import Source

QUALITIES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 90)
JPEG = CODECS["jpeg"]


def measure_rate(source: Source, quality: int, most: int = 2000) -> dict[str, float]:
    """Returns {"bpp_payload", "bpp_file"}, means over up to `most` images spread evenly over a source of one size."""
    coded = CodedSource(Sample(source, most), JPEG, quality)
    for i in range(len(coded)):
        coded[i]
    return coded.rates()


def nearest_quality(source: Source, bpp: float) -> int:
    """Returns the quality among QUALITIES whose payload bpp is nearest to `bpp` (ties: the higher quality)."""

    def distance(quality: int) -> float:
        return abs(measure_rate(source, quality, 200)["bpp_payload"] - bpp)

    return min(reversed(QUALITIES), key=distance)


def evaluate_jpeg(
    config: ConfigDict, workdir: Path, train: Source, validation: Source, test: Source, bpp: float
) -> dict[str, Any]:
    """Trains the reference on JPEG images at the rate nearest to `bpp` and evaluates it on the test split.

    Returns:
        "quality", "n_images", "top1", "top5", "bpp_payload" and "bpp_file" on the test split.
    """
    d = config.dataset
    validation, test = (AsEvaluated(source, d.image_size, d.eval_margin) for source in (validation, test))
    quality = nearest_quality(validation, bpp)
    config = without_bottleneck(config)
    config.name = f"{config.name}_jpeg{quality}"
    coded_train = coded_training(train, JPEG, quality, config)
    # A folder a quality: a rate that has changed since must not resume the classifier of another.
    variables = train_reference(
        config, workdir / f"quality{quality}", coded_train, CodedSource(validation, JPEG, quality)
    )
    coded = CodedSource(test, JPEG, quality)
    result = make_evaluator(config, test.info.num_classes, test.info.channels)(variables, coded)
    return {"quality": quality} | coded.rates() | result
