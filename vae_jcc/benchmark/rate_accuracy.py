"""Accuracy against rate of models and of classical codecs on one data set: the run behind `bench rate-accuracy`.

    output/points/*.json      one figure each: a codec at a quality with one classifier and seed, or a model
    output/classifiers/*/     trained references, by kind, seed and a digest of their settings
    output/result.json ...    what report.py makes of the points

A point is written when it is made and not made again, unless its settings have changed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vae_jcc.artifact import Artifact
from vae_jcc.benchmark.bench_data import BenchData
from vae_jcc.benchmark.codecs import Codec
from vae_jcc.benchmark.coded_source import CodedSource
from vae_jcc.benchmark.collect import merge
from vae_jcc.benchmark.cost import count_parameters
from vae_jcc.benchmark.references import coded_training, make_evaluator, reference_config, train_reference
from vae_jcc.checkpoint import load_variables
from vae_jcc.data.array_source import common_size
from vae_jcc.data.sources import Source
from vae_jcc.evaluate import evaluate_artifact, evaluation_view
from vae_jcc.files import write_file
from vae_jcc.publish import describe_run, describe_system

CLEAN, FINE_TUNED = "clean", "fine-tuned"


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        data: name of the data set (sources.py).
        train_split: for the classifiers.
        validation_split: for the choice among their epochs.
        split: of the figures.
        data_dir: where TFDS data sets lie; "" is the default.
        limit: images of `split` to use, spread evenly over it; 0 uses all.
        models: artifacts to measure.
        network: artifact whose structure and recipe the classifiers have.
        warm_start: start the clean classifier from the network's trained weights, not from fresh ones.
        clean_epochs: of its training.
        finetune_epochs: of each codec's and quality's training, which starts from the clean one; 0 leaves them out.
        seeds: of the classifiers.
        output: folder.
        command: that asked for it.
    """

    data: str
    train_split: str
    validation_split: str
    split: str
    data_dir: str
    limit: int
    models: tuple[str, ...]
    network: Artifact
    warm_start: bool
    clean_epochs: float
    finetune_epochs: float
    seeds: tuple[int, ...]
    output: Path
    command: str


class RateAccuracy:
    """Measures a plan's points, or takes them up from an earlier run."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        """Takes the plan, and what to do with a line about each point that is made."""
        self._plan, self._say = plan, say
        self._data = BenchData(
            plan.data,
            (plan.train_split, plan.validation_split, plan.split),
            data_dir=plan.data_dir,
            limit=plan.limit,
            network=plan.network,
        )
        self._runs: list[dict[str, Any]] = []
        self._coded: tuple[Codec, int, CodedSource] | None = None
        (plan.output / "points").mkdir(parents=True, exist_ok=True)

    @property
    def n_images(self) -> int:
        """Of the test split that each system is measured on."""
        return len(self._data.test_as_it_comes)

    def systems(self) -> list[dict[str, Any]]:
        """Returns what was measured so far in the results schema: a system for each model, and codec with classifier.

        Raises:
            ValueError: models of one name differ.
        """
        return merge(self._runs)

    def measure_models(self) -> None:
        """Measures the models from their bytes."""
        for name in self._plan.models:
            artifact = Artifact.load(name)
            settings = self._data_settings | {"model": artifact.fingerprint.hex(), "weights": dict(artifact.digests)}
            self._point(f"model_{artifact.fingerprint.hex()[:12]}", settings, partial(self._model, artifact))

    def measure_codec(self, codec: Codec, qualities: Sequence[int], classifier: str) -> None:
        """Measures a codec at some qualities with one kind of classifier, CLEAN or FINE_TUNED, for every seed."""
        for quality in qualities:
            for seed in self._plan.seeds:
                self._codec_point(codec, quality, classifier, seed)

    def qualities_up_to(self, codec: Codec, qualities: Sequence[int], payload: float) -> list[int]:
        """Returns those qualities at which the codec's measured points need at most `payload` bpp of payload bytes."""
        measured = {
            point["label"]: point["bpp_payload"][0]
            for run in self._runs
            if run.get("codec") == codec.name
            for point in run["points"]
        }
        return [quality for quality in qualities if measured[f"quality={quality}"] <= payload]

    def _codec_point(self, codec: Codec, quality: int, classifier: str, seed: int) -> None:
        training = self._training_settings(seed)
        if classifier == FINE_TUNED:
            training |= self._coding_settings(codec, quality) | {"finetune_epochs": self._plan.finetune_epochs}
        settings = self._data_settings | self._coding_settings(codec, quality) | {"training": training}

        def make() -> dict[str, Any]:
            config, folder = self._clean(seed) if classifier == CLEAN else self._fine_tuned(codec, quality, seed)
            variables, coded = load_variables(folder / "best"), self._coded_test(codec, quality)
            result = self._evaluate(variables, coded)
            rates = result | coded.rates()
            params = {part: variables["params"][part] for part in ("encoder", "classifier")}
            point = {key: [rates[key]] for key in ("top1", "top5", "bpp_payload", "bpp_file")}
            run = describe_run(self._plan.command)
            run["versions"] |= codec.versions()
            return {
                "system": f"{codec.title}, {classifier} classifier",
                "codec": codec.name,
                "classifier": classifier,
                "training": self._training_facts(classifier),
                "dataset": self._plan.data,
                "data_note": self.note,
                "split": self._plan.split,
                "n_images": int(result["n_images"]),
                "encoder": None,
                "receiver": {"params": count_parameters(params)},
                "rate": "bpp_payload",
                "points": [{"label": f"quality={quality}", "seeds": [seed]} | point],
            } | run

        self._point(f"{codec.name}_{quality}_{classifier}_seed{seed}", settings, make)

    def _model(self, artifact: Artifact) -> dict[str, Any]:
        images = self._data.test_as_it_comes
        evaluation = evaluate_artifact(artifact, images, batch_size=artifact.config.eval.batch_size)
        evaluation |= {"dataset": self._plan.data, "data_note": self.note, "split": self._plan.split}
        trees = {part: artifact.variables(part) for part in ("encoder", "classifier")}
        variables = {kind: {part: tree[kind] for part, tree in trees.items()} for kind in ("params", "batch_stats")}
        shape = (*common_size(images.info, evaluation_view(artifact, images.info)[0]), artifact.channels)
        return describe_system(artifact.config, variables, evaluation, shape, self._plan.command)

    def _point(self, name: str, settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        """Takes a point from its file where that was made with the same settings, else makes and writes it."""
        path = self._plan.output / "points" / f"{name}.json"
        settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
        saved = json.loads(path.read_text()) if path.is_file() else {}
        if saved.get("settings") != settings:
            saved = {"settings": settings, "result": make()}
            write_file(path, (json.dumps(saved, indent=1) + "\n").encode())
            point, rate = saved["result"]["points"][0], saved["result"].get("rate", "bpp_file")
            self._say(
                f"{saved['result']['system']}, {point['label']}, seed {point['seeds'][0]}: "
                f"top-1 {point['top1'][0]:.2%} at {point[rate][0]:.3f} bpp ({rate.removeprefix('bpp_')})"
            )
        self._runs.append(saved["result"])

    # The classifiers.

    def _clean(self, seed: int) -> tuple[Any, Path]:
        """Returns configuration and folder of the clean classifier, trained if need be."""
        plan = self._plan
        config = reference_config(
            plan.network.config,
            name=f"clean_seed{seed}",
            epochs=plan.clean_epochs,
            seed=seed,
            image_size=self._data.image_size,
            start=str(plan.network.folder) if plan.warm_start else "",
        )
        return self._trained(config, self._training_settings(seed), lambda: (self._data.train, self._data.validation))

    def _fine_tuned(self, codec: Codec, quality: int, seed: int) -> tuple[Any, Path]:
        """Returns configuration and folder of the classifier for one codec and quality, trained if need be."""
        plan = self._plan
        settings = self._training_settings(seed) | self._coding_settings(codec, quality)
        settings |= {"finetune_epochs": plan.finetune_epochs}
        config = reference_config(
            plan.network.config,
            name=f"{codec.name}_{quality}_seed{seed}",
            epochs=plan.finetune_epochs,
            seed=seed,
            image_size=self._data.image_size,
            start=str(self._clean(seed)[1] / "best"),
        )
        return self._trained(
            config,
            settings,
            lambda: (
                coded_training(self._data.train, codec, quality, config),
                CodedSource(self._data.validation, codec, quality),
            ),
        )

    def _trained(
        self, config: Any, settings: dict[str, Any], sources: Callable[[], tuple[Source, Source]]
    ) -> tuple[Any, Path]:
        folder = self._plan.output / "classifiers" / f"{config.name}_{_digest(settings)}"
        finished = folder / "settings.json"
        if not finished.is_file():
            self._say(f"Training {config.name}: {config.train.epochs:g} epochs")
            train_reference(config, folder, *sources())
            write_file(finished, (json.dumps(settings, indent=1) + "\n").encode())
            # Five times the variables that are kept; after the mark, so that no half of them is resumed from.
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return config, folder

    # What decides the figures.

    @property
    def _data_settings(self) -> dict[str, Any]:
        return {
            "dataset": self._plan.data,
            "split": self._plan.split,
            "n_images": len(self._data.test_as_it_comes),
            "size": self._data.shape[:2],
            "eval_margin": self._data.margin,
        }

    def _training_settings(self, seed: int) -> dict[str, Any]:
        plan = self._plan
        return {
            "dataset": plan.data,
            "train_split": plan.train_split,
            "validation_split": plan.validation_split,
            "image_size": self._data.image_size,
            "eval_margin": self._data.margin,
            "network": _digest(dict(plan.network.settings)),
            "start": dict(plan.network.digests) if plan.warm_start else {},
            "clean_epochs": plan.clean_epochs,
            "seed": seed,
        } | ({"crops_before_coding": True} if plan.network.config.dataset.crop_scale else {})

    def _training_facts(self, classifier: str) -> dict[str, Any]:
        plan = self._plan
        facts = {"network": plan.network.config.name, "warm_start": plan.warm_start, "clean_epochs": plan.clean_epochs}
        return facts | ({"finetune_epochs": plan.finetune_epochs} if classifier == FINE_TUNED else {})

    def _coding_settings(self, codec: Codec, quality: int) -> dict[str, Any]:
        options = [writer(quality, self._data.shape) for writer in codec.writers]
        return {"codec": codec.name, "quality": quality, "options": options}

    @property
    def note(self) -> str:
        """What must be said beside the figures, such as "JPEG-75 copy"."""
        return self._data.test_as_it_comes.info.note

    def _coded_test(self, codec: Codec, quality: int) -> CodedSource:
        """Returns the test images after a codec; the latest is kept, for the next seed."""
        if self._coded is None or self._coded[:2] != (codec, quality):
            self._coded = codec, quality, CodedSource(self._data.test, codec, quality)
        return self._coded[2]

    @cached_property
    def _evaluate(self) -> Callable[[Any, Source], dict[str, float]]:
        config = self._clean(self._plan.seeds[0])[0]
        return make_evaluator(config, self._data.test.info.num_classes, self._data.test.info.channels)


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
