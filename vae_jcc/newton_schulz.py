"""Muon's momentum, made orthogonal by Newton-Schulz steps on Gram matrices: Optax's steps for a third of the work.

Zhang, Amsel, Chen and Dao 2026, "Gram Newton-Schulz: A fast, hardware-aware Newton-Schulz algorithm for Muon", without
its restarts, which are for numbers of 16 bits. A kernel of a convolution is a matrix with several times more rows than
columns, and each plain step multiplies it three times; here it is multiplied twice in all.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: singular values in 0.002..1 come to 0.7..1.2
STEPS = 5


def scale_by_muon(beta: float, nesterov: bool) -> optax.GradientTransformation:
    """Returns what `optax.contrib.scale_by_muon` is for kernels, with the same state.

    A kernel [..., outputs] is a matrix [all inputs of an output, outputs].

    Args:
        beta: of the momentum.
        nesterov: Nesterov momentum.
    """
    momentum = optax.contrib.scale_by_muon(
        beta=beta,
        nesterov=nesterov,
        weight_dimension_numbers=lambda updates: jax.tree.map(as_matrix, updates),
        ns_steps=0,  # the momentum alone, at norm 1
    )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = momentum.update(updates, state, params)
        return jax.tree.map(lambda m: orthogonalize(m.reshape(-1, m.shape[-1])).reshape(m.shape), updates), state

    return optax.GradientTransformation(momentum.init, update)


def is_matrix(path: Any, leaf: jax.Array) -> bool:
    """Says whether Muon takes a variable (its path in a tree, and itself or its shape): kernels of several inputs."""
    return bool(path[-1].key == "kernel" and leaf.shape[-2] > 1)


def as_matrix(kernel: jax.Array) -> optax.contrib.MuonDimensionNumbers:
    """Returns which axes of a kernel [..., outputs] are its rows and its columns."""
    return optax.contrib.MuonDimensionNumbers(tuple(range(kernel.ndim - 1)), (kernel.ndim - 1,))


# TPUs and GPUs otherwise round what they multiply to 8 or 11 bits. Gram matrices, whose entries are products already,
# keep too little of the small singular values then: steps are wrong by half, or by a tenth.
@jax.default_matmul_precision("highest")
def orthogonalize(x: jax.Array) -> jax.Array:
    """Returns a matrix float32 [m, n] with its singular vectors kept and its singular values brought near 1.

    Args:
        x: float32 [m, n] of Frobenius norm 1 at most.
    """
    if x.shape[0] > x.shape[1]:
        return orthogonalize(x.T).T
    a, b, c = COEFFICIENTS
    # A step is X <- P X with P = a I + b G + c G G of G = X X'. All that follows commutes with G, being polynomials of
    # it, so the next G is P G P, and the factors of X need only be multiplied with each other until the end.
    identity = jnp.eye(len(x), dtype=x.dtype)
    gram, factor = x @ x.T, identity
    for step in range(STEPS):
        p = a * identity + (b * identity + c * gram) @ gram
        factor = p @ factor
        if step + 1 < STEPS:
            gram = p @ gram @ p
    return factor @ x
