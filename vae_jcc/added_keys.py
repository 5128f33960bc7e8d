"""Keys that the configuration got after models and checkpoints had been saved without them.

Whoever reads an older configuration completes it with the values that mean what was done then. What is stored stays as
it is: a model's fingerprint is taken of its own config.json.
"""

import copy
from collections.abc import Mapping
from typing import Any

ADDED_KEYS: Mapping[str, Any] = {
    "init_parts": [],
    "artifact_compute_dtype": "float32",
    "dataset.eval_margin": 0,
    "dataset.crop_scale": [],
    "dataset.crop_ratio": [3 / 4, 4 / 3],
    "augment.cutmix": 0.0,
    "model.remat": "",
    "model.encoder.as_published": False,
    "model.encoder.separable_kernel": 0,
    "model.encoder.expansion": 2,
    "model.classifier.as_published": False,
    "quantizer.centres": 0,
    "entropy.kind": "factorized",
    "entropy.context": {
        "kind": "",
        "features": 48,
        "blocks": 1,
        "groups": 4,
        "epochs": 3.0,
        "fixed_fraction": 0.4,
        "learning_rate": 2e-3,
    },
    "loss.teacher_views": 0,
    "optim.vector_learning_rate": 0.2,
    "optim.nesterov": True,
    "optim.decay_all": False,
    "optim.rate_optimizer": "",
    "optim.rate_fraction": 5e-4,
    "optim.schedule": "cosine",
    "train.accumulate": 1,
}


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a saved configuration (JSON values) in which every added key is present.

    Raises:
        KeyError: a whole section is missing; that is damage, not age.
    """
    completed = copy.deepcopy(dict(settings))
    for name, value in ADDED_KEYS.items():
        *sections, key = name.split(".")
        section = completed
        for part in sections:
            section = section[part]
        section.setdefault(key, copy.deepcopy(value))
    return completed
