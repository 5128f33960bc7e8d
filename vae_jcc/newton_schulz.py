"""The Newton-Schulz steps of Muon on Gram matrices: the same polynomial of a matrix for a third of its operations.

Zhang, Amsel, Chen and Dao 2026, "Gram Newton-Schulz: A fast, hardware-aware Newton-Schulz algorithm for Muon", without
its restarts, which are for numbers of 16 bits. A kernel of a convolution is a matrix with several times more columns
than rows, and each plain step multiplies it three times; here it is multiplied twice in all.
"""

import jax
import jax.numpy as jnp

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: singular values in 0.002..1 come to 0.7..1.2
STEPS = 5


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
        factor = p @ factor if step else p
        if step + 1 < STEPS:
            gram = p @ gram @ p
    return factor @ x
