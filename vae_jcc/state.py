"""What training carries from step to step, and what a checkpoint holds of it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

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
) -> TrainState:
    """Returns the state at step 0.

    Args:
        model: the joint model.
        optimizer: from `make_optimizer`.
        seed: of the initial parameters.
        image_shape: (H, W, C) of training images.
        start: variables {"params", "batch_stats"} of a trained model to start from, or None. Parts that it lacks (a
            decoder, say) start fresh; parts that this model lacks are left out.

    Raises:
        ValueError: `start` does not fit the model.
    """

    def init() -> dict[str, Any]:
        return dict(jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, *image_shape))))

    variables = init() if start is None else _with_start(init, start)
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


def _with_start(init: Callable[[], dict[str, Any]], start: dict[str, Any]) -> dict[str, Any]:
    """Returns `start` with the parts that only the model has taken from `init()`, which runs only if there are any."""
    wanted = jax.eval_shape(init)
    lacking = wanted["params"].keys() - start["params"].keys()
    fresh = init() if lacking else wanted
    merged = {
        kind: {part: tree if part in lacking else start[kind].get(part, {}) for part, tree in parts.items()}
        for kind, parts in fresh.items()
    }
    want, got = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (wanted, merged)
    )
    for name in sorted(want.keys() | got.keys()):
        if want.get(name) != got.get(name):
            raise ValueError(
                f"init_from holds {name} of shape {got.get(name)}, this model wants {want.get(name)}: use the config "
                "that the start was trained with."
            )
    return merged


def update_average(average: Any, new: Any, decay: float, step: jax.Array) -> Any:
    """Returns the exponential moving average after `new`; young averages forget faster, so they are not biased."""
    weight = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, n: a + weight * (n - a), average, new)
