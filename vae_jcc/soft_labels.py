"""A teacher's answers as labels: asked once before training, about a few views of each image, instead of in every step.

A teacher is often larger than its pupil, and its forward pass then most of a step. Labels that are kept make a step as
fast as without a teacher (Shen and Xing 2022, "A Fast Knowledge Distillation Framework for Visual Recognition"; there
each view keeps its own label, here an image's views share their mean).
"""

import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jcc.artifact import Artifact
from vae_jcc.cluster import gather_rows
from vae_jcc.data.augment import augment
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import Source
from vae_jcc.evaluate import input_settings
from vae_jcc.files import write_file
from vae_jcc.metrics import tell
from vae_jcc.parallel import Devices, make_devices
from vae_jcc.steps import Batch, Teacher

FILE = "soft_labels.npz"


def soft_labels(config: ConfigDict, teacher: Teacher, source: Source, workdir: Path, devices: Devices) -> np.ndarray:
    """Returns the teacher's logits float32 [N, K] of a source's images: of its mean probabilities over their views.

    There are `config.loss.teacher_views` views of an image, drawn as training draws them (`config.augment`; CutMix
    mixes images and labels later), but the same for every seed of a training. The labels stay in
    WORKDIR/soft_labels.npz for a run that is resumed; another run of the same teachers, views, augmentation and images,
    with any seed or model, takes a copy of that file.

    Args:
        config: the complete configuration.
        teacher: from `load_teacher`.
        source: the training images, N of them.
        workdir: for the file.
        devices: of the training. Each process asks about its share of the images, on its own devices, and gets all
            answers; the first one writes the file.

    Raises:
        ValueError: the file is damaged.
    """
    settings = _settings(config, source)
    path = workdir / FILE
    kept = _read(path, settings)
    if kept is not None:
        return kept
    views = config.loss.teacher_views
    say = partial(tell, silent=devices.rank > 0)
    say(f"Asking the teacher once: {views} views of each of {len(source):,} images.")
    labels = _ask(config, teacher, source, devices, say)
    if devices.rank == 0:
        data = io.BytesIO()
        np.savez(data, logits=labels, settings=settings)
        workdir.mkdir(parents=True, exist_ok=True)
        write_file(path, data.getvalue())
    return labels


def _settings(config: ConfigDict, source: Source) -> str:
    """Returns what the labels depend on, as one text."""
    teachers = [Artifact.load(path.strip()) for path in config.loss.teacher.split(",")]
    d = config.dataset
    told = {
        "teachers": [[teacher.fingerprint.hex(), teacher.digests["classifier"]] for teacher in teachers],
        "views": config.loss.teacher_views,
        "augment": {key: value for key, value in config.augment.to_dict().items() if key != "cutmix"},
        "images": [d.name, d.train_split, len(source), d.image_size, d.margin],
    }
    return json.dumps(told, sort_keys=True)


def _read(path: Path, settings: str) -> np.ndarray | None:
    """Returns the labels of a file, or None where there is none or it was made with other settings."""
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            return file["logits"] if str(file["settings"]) == settings else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it, and the teacher is asked again.") from error


def _ask(
    config: ConfigDict, teacher: Teacher, source: Source, devices: Devices, say: Callable[[str], None]
) -> np.ndarray:
    views, size = config.loss.teacher_views, config.dataset.image_size

    def one_view(batch: Batch) -> jax.Array:
        keys = jax.vmap(_view_key)(batch["view"], batch["index"])
        return jax.nn.softmax(teacher(augment(keys, batch["image"], config.augment, size)))

    settings = input_settings(config, devices)
    if size:
        settings["image_size"] = size + 2 * config.dataset.margin
    many = len(devices.processes) > 1
    own = make_devices(config.parallel) if many else devices
    ask = own.compile_map(one_view)
    answers: list[np.ndarray] = []
    right, total = 0, config.eval.batch_size
    tenth = max(1, len(source) // total // 10)
    for batch in eval_batches(source, batch_size=total, **settings):
        rows = len(batch["label"])  # this process's share of the batch, which stands at its rank
        place = np.arange(rows, dtype=np.int32) + total * len(answers) + rows * devices.rank
        drawn = {"image": batch["image"], "index": place}
        each = [ask(own.put_batch(drawn | {"view": np.full(rows, v, np.int32)})) for v in range(views)]
        mean = np.mean([np.asarray(a).reshape(rows, -1) for a in each], axis=0)
        agrees = (mean.argmax(-1) == batch["label"]) & (batch["mask"] > 0)
        answers.append(gather_rows(mean) if many else mean)
        right += int(np.sum(gather_rows(agrees) if many else agrees))
        if len(answers) % tenth == 0:
            say(f"teacher: {min(total * len(answers), len(source)):,} of {len(source):,} images")
    # Under a large `distill_weight` a pupil learns the wrong ones too, and is hardly better than they are.
    say(f"teacher: {right / len(source):.2%} of its labels are right; they count config.loss.distill_weight.")
    return np.log(np.maximum(np.concatenate(answers)[: len(source)], np.finfo(np.float32).tiny))


def _view_key(view: jax.Array, index: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), view), index)
