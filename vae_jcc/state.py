"""What training carries from step to step, and what a checkpoint holds of it."""

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
        start: variables {"params", "batch_stats"} of a trained model to start from, or None.

    Raises:
        ValueError: `start` does not fit the model.
    """
    variables = start
    fresh = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, *image_shape)))
    if variables is None:
        variables = fresh
    else:
        for (path, want), (_, got) in zip(
            jax.tree_util.tree_leaves_with_path(fresh), jax.tree_util.tree_leaves_with_path(variables), strict=True
        ):
            if want.shape != got.shape:
                raise ValueError(
                    f"init_from holds {jax.tree_util.keystr(path)} of shape {got.shape}, this model wants "
                    f"{want.shape}: use the config that the checkpoint was trained with."
                )
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


def update_average(average: Any, new: Any, decay: float, step: jax.Array) -> Any:
    """Returns the exponential moving average after `new`; young averages forget faster, so they are not biased."""
    weight = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, n: a + weight * (n - a), average, new)
