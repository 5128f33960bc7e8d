"""How a step is spread over devices: the only file that knows of meshes, shardings and pmap.

Two ways, the same arithmetic (contract: 1, 2 or 4 devices give the same parameters, to rounding):

* "jit" (default): one global batch, sharded over a one-axis mesh; the compiler inserts the collectives. The loss is a
  global mean and batch statistics are global too.
* "pmap": the step runs once a device on its share, with the gradients averaged after `grad` (`lax.pmean`) and batch
  statistics averaged inside the model. State goes in and comes out unreplicated (axes None).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


@dataclass(frozen=True)
class Devices:
    """Places state and batches, and compiles steps, on one-axis groups of devices."""

    mode: str
    mesh: Mesh

    @property
    def axis_name(self) -> str | None:
        """The axis that steps and models must average over; None under jit."""
        return AXIS if self.mode == "pmap" else None

    @property
    def count(self) -> int:
        """Number of devices over all hosts."""
        return self.mesh.devices.size

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes that hold them, rising; the first one leads."""
        return sorted({d.process_index for d in self.mesh.devices.flat})

    @property
    def rank(self) -> int:
        """Place of this process among `processes`; 0 leads."""
        return self.processes.index(jax.process_index())

    @property
    def _local(self) -> list[Any]:
        return [d for d in self.mesh.devices.flat if d.process_index == jax.process_index()]

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the compiled `step(state, batch) -> (state, metrics)`; the state is donated."""
        if self.mode == "pmap":
            devices = list(self.mesh.devices.flat)
            return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=(None, None), devices=devices, donate_argnums=0)
        everywhere, split = self._shardings()
        return jax.jit(step, in_shardings=(everywhere, split), out_shardings=(everywhere, everywhere), donate_argnums=0)

    def compile_ahead(self, step: Callable[..., Any], state: Any, batch: dict[str, np.ndarray]) -> tuple[Any, Any]:
        """Returns the step compiled for these arguments, for its costs and names, and the state where it wants it."""
        compilable: Any = self.compile_train(step)
        compiled = compilable.lower(state, self.put_batch(batch)).compile()
        # A step that was compiled ahead does not spread its arguments itself.
        return compiled, jax.device_put(state, compiled.input_shardings[0][0])

    def compile_eval(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the compiled `step(variables, batch) -> sums`."""
        if self.mode == "pmap":
            return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=list(self.mesh.devices.flat))
        everywhere, split = self._shardings()
        return jax.jit(step, in_shardings=(everywhere, split), out_shardings=everywhere)

    def compile_map(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the compiled `function(batch) -> an array of a row an example`, each device's rows of its own share.

        Under pmap the result is [devices, rows a device, ...], as batches are.
        """
        if self.mode == "pmap":
            return jax.pmap(function, AXIS, devices=list(self.mesh.devices.flat))
        split = self._shardings()[1]
        return jax.jit(function, in_shardings=split, out_shardings=split)

    def put_state(self, state: Any) -> Any:
        """Returns the state on every device (jit) or as one copy that pmap broadcasts."""
        if self.mode == "pmap":
            return jax.device_put(state, self._local[0])
        return jax.device_put(state, self._shardings()[0])

    def put_batch(self, batch: dict[str, np.ndarray]) -> Any:
        """Returns this host's share [b, ...] of the global batch on its devices."""
        if self.mode == "pmap":
            n = len(self._local)
            return {k: v.reshape(n, v.shape[0] // n, *v.shape[1:]) for k, v in batch.items()}
        split = self._shardings()[1]
        return {k: jax.make_array_from_process_local_data(split, v) for k, v in batch.items()}

    def check_batch(self, batch_size: int, key: str, parts: int = 1) -> None:
        """Raises ValueError if a global batch, or each of its equal parts, does not divide over the devices.

        `key` names the config entry.
        """
        if parts < 1 or batch_size % (self.count * parts):
            parts_note = f" in {parts} parts (config.train.accumulate)" if parts != 1 else ""
            raise ValueError(
                f"config.{key}={batch_size} does not divide over {self.count} devices{parts_note}: make it a multiple."
            )

    def _shardings(self) -> tuple[NamedSharding, NamedSharding]:
        return NamedSharding(self.mesh, PartitionSpec()), NamedSharding(self.mesh, PartitionSpec(AXIS))


def make_devices(mode: str, devices: list[Any] | None = None) -> Devices:
    """Returns the group of `devices` in the given mode.

    The default is this process's own devices, which is all of them where there is one process. A group over many
    processes (`jax.devices()`) must be made and used by all of them alike.

    Raises:
        ValueError: the mode is neither "jit" nor "pmap".
    """
    if mode not in ("jit", "pmap"):
        raise ValueError(f"config.parallel is {mode!r}: choose 'jit' or 'pmap'.")
    group = sorted(devices or jax.local_devices(), key=lambda d: (d.process_index, d.id))  # a host's rows lie together
    return Devices(mode, Mesh(np.asarray(group), (AXIS,)))
