"""What training carries from step to step, and what a checkpoint holds of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from vae_jcc.models.joint import JointModel


@flax.struct.dataclass
class TrainState:
    """Parameters, batch statistics, their moving averages and the optimizer's state."""

    step: jax.Array  # int32 []
    params: Any
    batch_stats: Any
    ema_params: Any
    ema_batch_stats: Any
    opt_state: Any

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The averaged variables, which evaluation and artifacts use."""
        return {"params": self.ema_params, "batch_stats": self.ema_batch_stats}


def create_state(
    model: JointModel,
    optimizer: optax.GradientTransformation,
    seed: int,
    image_shape: tuple[int, int, int],
    start: dict[str, Any] | None = None,
    parts: Sequence[str] = (),
) -> TrainState:
    """Returns the state at step 0.

    Args:
        model: the joint model.
        optimizer: from `make_optimizer`.
        seed: of the initial parameters.
        image_shape: (H, W, C) of training images.
        start: variables {"params", "batch_stats"} of a trained model to start from, or None. Parts that it lacks (a
            decoder, say) start fresh; parts that this model lacks are left out. Further residual blocks of a stage
            start as the identity, so a deeper network goes on from where a trained one is.
        parts: of the model that `start` is for, as `config.init_parts` names them; all others start fresh. () = those
            that it holds.

    Raises:
        ValueError: `start` does not fit the model.
    """

    def init() -> dict[str, Any]:
        return dict(jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, *image_shape))))

    variables = init() if start is None else _with_start(init, start, parts)
    params, batch_stats = variables["params"], variables["batch_stats"]
    # The averages start as copies: donated buffers must not be shared.
    copy = lambda tree: jax.tree.map(jnp.array, tree)  # noqa: E731
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        ema_params=copy(params),
        ema_batch_stats=copy(batch_stats),
        opt_state=optimizer.init(params),
    )


def _with_start(init: Callable[[], dict[str, Any]], start: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """Returns `start`, with what only the model has taken from `init()`, which runs only if there is any such thing."""
    wanted = traverse_util.flatten_dict(jax.eval_shape(init))
    sources = part_sources(parts or start["params"])
    parts = [part for part in sources if any(is_of(path[1:], [part]) for path in wanted)]
    if lost := [f"{place}={source}" for place, source in sources.items() if place != source and place not in parts]:
        raise ValueError(f"init_parts has {', '.join(lost)}, and this model has no such place.")
    given = {path: leaf for path, leaf in traverse_util.flatten_dict(start).items() if is_of(path[1:], parts)}
    owners = {_owner(path) for path in given}
    projecting = {_owner(path) for path in wanted if "shortcut" in path}

    def lacks(path: tuple[str, ...]) -> bool:
        return not is_of(path[1:], parts) or _owner(path) not in owners | projecting

    lacking = {path for path in wanted if lacks(path)}
    fresh = traverse_util.flatten_dict(init()) if lacking else {}
    merged = given | {path: fresh[path] for path in lacking}
    for path in sorted(wanted.keys() | merged.keys()):
        want, got = (getattr(tree.get(path), "shape", None) for tree in (wanted, merged))
        if want != got:
            name = "".join(f"[{key!r}]" for key in path)
            raise ValueError(
                f"init_from holds {name} of shape {got}, this model wants {want}: use the config that the start was "
                "trained with."
            )
    # A residual block whose last kernel is zero adds nothing yet, so the trained network goes on from where it is.
    silent = {path for path in lacking if is_of(path[1:], parts) and path[-2:] == ("conv2", "kernel")}
    return traverse_util.unflatten_dict({p: jnp.zeros_like(x) if p in silent else x for p, x in merged.items()})


def part_sources(parts: Iterable[str]) -> dict[str, str]:
    """Returns {where it goes: whence it comes} of `config.init_parts`: "PLACE=PATH", or "PATH" for both."""
    return {place: source or place for place, _, source in (part.partition("=") for part in parts)}


def is_of(path: tuple[str, ...], parts: Sequence[str]) -> bool:
    """Says whether a variable's path (part, module, ...) is in one of these: "classifier", "encoder/stem", ..."""
    return any(path[: len(names)] == names for names in (tuple(part.split("/")) for part in parts))


def _owner(path: tuple[str, ...]) -> tuple[str, ...]:
    """Names the residual block that a variable belongs to, or else its part; (kind, part, ...) is its path."""
    depth = next((i for i, key in enumerate(path) if "_block" in key), 1)
    return path[1 : depth + 1]


def update_average(average: Any, new: Any, decay: float, step: jax.Array) -> Any:
    """Returns the exponential moving average after `new`; young averages forget faster, so they are not biased."""
    weight = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, n: a + weight * (n - a), average, new)
