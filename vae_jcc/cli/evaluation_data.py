"""The images that a command evaluates a model on: those that it names, or the model's own test split."""

from argparse import Namespace
from typing import TYPE_CHECKING, NamedTuple

from vae_jcc.artifact import Artifact

if TYPE_CHECKING:
    from vae_jcc.data.sources import Source


class EvaluationData(NamedTuple):
    """A source with what it was asked for by."""

    source: "Source"
    name: str
    split: str


def open_evaluation_data(options: Namespace, artifact: Artifact) -> EvaluationData:
    """Returns what `--data`, `--split` and `--data-dir` name.

    Raises:
        DataError: there is no such data set or split.
    """
    from vae_jcc.data.sources import open_source

    name = options.data or artifact.dataset
    own = name == artifact.dataset
    split = options.split or (artifact.config.dataset.test_split if own else "test")
    return EvaluationData(open_source(name, split, data_dir=options.data_dir or None), name, split)
