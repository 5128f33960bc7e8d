"""Checkpoints through Orbax: the training state, the data iterator's state and the facts that must match on resume."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from vae_jcc.added_keys import complete
from vae_jcc.artifact import Artifact
from vae_jcc.model_folder import MODEL_FILE, zoo_names
from vae_jcc.state import TrainState, is_of, part_sources

# What a resumed run must share with the one that it continues, or its result would be neither's. Of the data set that
# is not where it lies or how much memory and how many processes read it, nor what happens after training.
_IDENTITY = (
    "seed",
    "init_from",
    "init_parts",
    "compute_dtype",
    "dataset",
    "augment",
    "model",
    "quantizer",
    "entropy",
    "loss",
    "optim",
    "train",
)
_NOT_OF_DATASET = ("data_dir", "workers", "memory_limit", "note", "test_split")


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """Returns what of a configuration decides the state.

    A decoder or a context model that is trained afterwards does not, and may be added; nor does rematerialization.
    """
    identity = {key: config[key] for key in _IDENTITY}
    decoder = config["model"]["decoder"]
    return identity | {
        "dataset": {key: value for key, value in config["dataset"].items() if key not in _NOT_OF_DATASET},
        "model": config["model"] | {"decoder": decoder if decoder["mode"] == "joint" else None, "remat": None},
        "entropy": config["entropy"] | {"context": None},
    }


class Checkpoints:
    """The checkpoints of one run, in `workdir`/checkpoints; saving goes on in the background.

    A state over the devices of many processes is saved and restored by all of them together, in one folder that all of
    them see; what does not depend on the process is written once.
    """

    def __init__(self, workdir: Path, keep: int, processes: Sequence[int] = (0,)):
        """Opens or makes the folder; the latest `keep` checkpoints stay.

        Args:
            workdir: of the run.
            keep: checkpoints that stay.
            processes: that hold the state (`Devices.processes`), all of which call each method.
        """
        self.folder = workdir.absolute() / "checkpoints"
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            enable_async_checkpointing=True,
            multiprocessing_options=_together(processes),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, iterator_state: dict[str, Any], config: ConfigDict) -> None:
        """Saves in the background; does nothing if this step is saved already."""
        if step in self._manager.all_steps():
            return
        if jax.process_count() > 1 and all(leaf.is_fully_addressable for leaf in jax.tree.leaves(state)):
            state = jax.device_get(state)  # one process's own, of many: Orbax takes it as NumPy arrays only
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                iterator=ocp.args.JsonSave(iterator_state),
                config=ocp.args.JsonSave(json.loads(config.to_json())),
            ),
        )

    def restore(self, like: TrainState, config: ConfigDict) -> tuple[TrainState, dict[str, Any]]:
        """Returns the newest state, placed as `like` is, and the data iterator's state.

        Raises:
            ValueError: the checkpoint was made with another configuration.
        """
        # The configuration first: a state of another model would not even fit the tree that it is restored to.
        then = self._manager.restore(self.latest, args=ocp.args.Composite(config=ocp.args.JsonRestore()))["config"]
        was, now = (flatten_dict(_identity(c), sep=".") for c in (complete(then), json.loads(config.to_json())))
        changed = sorted(key for key in now.keys() | was.keys() if now.get(key) != was.get(key))
        if changed:
            raise ValueError(
                f"{self.folder} was made with another config ({', '.join(changed)} differ): "
                "resume with the same config, or start in a new --workdir."
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(iterator=ocp.args.JsonRestore(), state=ocp.args.StandardRestore(abstract))
        got = self._manager.restore(self.latest, args=args)
        return got["state"], got["iterator"]

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes saving and releases the folder."""
        self.wait()
        self._manager.close()


def _together(processes: Sequence[int]) -> Any:
    """Returns Orbax's options where `processes` save together, and nobody else is waited for."""
    if len(processes) == jax.process_count():
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(primary_host=processes[0], active_processes=set(processes))


def _alone() -> Any:
    """Returns a checkpointer for arrays in this process's memory."""
    return ocp.StandardCheckpointer(multiprocessing_options=_together([jax.process_index()]))


def save_variables(path: Path, variables: Any) -> None:
    """Saves {"params", "batch_stats"} alone, replacing what was there: the best so far, or a start for others.

    Of many processes one calls it, with arrays in its memory.
    """
    with _alone() as checkpointer:
        checkpointer.save(path.absolute(), variables, force=True)


def load_variables(path: Path) -> Any:
    """Returns the variables that `save_variables` wrote, as NumPy arrays.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"No checkpoint folder {path}: a run keeps its best variables in WORKDIR/best.")
    with _alone() as checkpointer:
        return jax.tree.map(jax.device_get, checkpointer.restore(path.absolute()))


def load_start(names: str, parts: Sequence[str] = ()) -> Any:
    """Returns the variables {"params", "batch_stats"} that `config.init_from` and `config.init_parts` name.

    Models that were trained on from one another often lie in one valley of the loss, where the mean of their variables
    can be better than each of them (Wortsman et al. 2022, "Model soups", section 3).

    Args:
        names: a run's WORKDIR/best, an artifact's folder, or a name in the zoo; or several, separated by commas, for
            the mean of their variables, of the parts that all of them have.
        parts: of the model ("classifier") or paths within them ("encoder/stem"), to be taken from there; none = all
            that are there. "PLACE=PATH" puts what is at PATH there at PLACE.

    Raises:
        FileNotFoundError: it is none of these.
        ArtifactError: the artifact is damaged.
        ValueError: it has no such part, a name is empty, or they are of different networks.
    """
    each = [name.strip() for name in names.split(",")]
    if "" in each:
        raise ValueError(f"init_from={names!r} names nothing beside a comma: leave the comma out.")
    starts = [flatten_dict(_load_one(name, parts)) for name in each]
    common = set.intersection(*({path[1] for path in start} for start in starts))
    starts = [{path: x for path, x in start.items() if path[1] in common} for start in starts]
    shapes = [{path: np.shape(x) for path, x in start.items()} for start in starts]
    if any(other != shapes[0] for other in shapes):
        raise ValueError(f"init_from={names!r} names models of different networks, which have no mean: name one.")
    mean = {path: np.mean([start[path] for start in starts], axis=0, dtype=np.float32) for path in starts[0]}
    return unflatten_dict(mean)


def _load_one(name: str, parts: Sequence[str]) -> Any:
    """Returns what `load_start` does, of one model."""
    if name not in zoo_names() and not (Path(name) / MODEL_FILE).is_file():
        start = load_variables(Path(name))
    else:
        artifact = Artifact.load(name)
        # A context model is stored as the integers that it codes with, which is no start for training.
        trees = {part: artifact.variables(part) for part in artifact.parts if part != "context"}
        start = {kind: {part: tree[kind] for part, tree in trees.items()} for kind in ("params", "batch_stats")}
    variables = flatten_dict(start)
    sources = part_sources(parts)
    if missing := [part for part in sources.values() if not any(is_of(path[1:], [part]) for path in variables)]:
        raise ValueError(
            f"init_parts names {', '.join(missing)}, which {name} does not have: it has "
            f"{', '.join(sorted(start['params']))}, and paths within them such as {'/'.join(min(variables)[1:-1])}."
        )
    if not parts:
        return start
    taken: dict[tuple[str, ...], Any] = {}
    for place, source in sources.items():
        depth = 1 + len(source.split("/"))
        taken |= {
            (path[0], *place.split("/"), *path[depth:]): x for path, x in variables.items() if is_of(path[1:], [source])
        }
    return unflatten_dict(taken)
