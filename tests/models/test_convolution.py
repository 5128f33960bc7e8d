"""The convolution's gradients against XLA's own, which is what every device but a CPU uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vae_jcc.models import convolution, parts

# (batch, rows, columns, channels in, channels out, kernel, stride, padding)
CASES = [
    (6, 8, 8, 5, 7, 3, 1, "SAME"),
    (6, 9, 7, 5, 7, 3, 2, "SAME"),
    (7, 8, 6, 3, 4, 4, 2, "SAME"),
    (4, 8, 8, 3, 6, 4, 4, "SAME"),
    (4, 5, 5, 6, 2, 1, 1, "SAME"),
    (4, 6, 6, 6, 2, 1, 2, "SAME"),
    (3, 9, 9, 2, 3, 3, 2, "VALID"),
    (2, 16, 16, 3, 5, 7, 2, "SAME"),
    (3, 7, 8, 2, 3, 2, 3, "VALID"),
    (2, 6, 5, 2, 3, 3, 2, ((0, 4), (3, 0))),
    # Images, or gradients, that are smaller than the kernel.
    (5, 2, 2, 4, 6, 3, 1, "SAME"),
    (5, 4, 4, 4, 6, 3, 2, "SAME"),
    (4, 1, 1, 3, 5, 3, 1, "SAME"),
    (4, 2, 7, 3, 5, 3, 2, "SAME"),
    (3, 4, 2, 2, 3, 5, 2, "SAME"),
    (3, 2, 3, 2, 3, 4, 3, ((1, 4), (2, 2))),
]


@pytest.mark.parametrize(
    ("dtype", "part_bytes"),
    [(jnp.float32, 1), (jnp.bfloat16, 1), (jnp.bfloat16, 2**30)],
    ids=["float32-one-image-at-a-time", "bfloat16-one-image-at-a-time", "bfloat16-whole-batch"],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_xlas(case, dtype, part_bytes, monkeypatch):
    batch, rows, columns, c_in, c_out, size, stride, padding = case
    monkeypatch.setattr(parts, "_part_bytes", lambda: part_bytes)
    convolution.convolve.clear_cache()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, rows, columns, c_in)), dtype)
    kernel = jnp.asarray(rng.normal(size=(size, size, c_in, c_out)), dtype)

    def xla(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(x, kernel):
        return convolution.conv_general_dilated(x, kernel, (stride, stride), padding)

    want, want_vjp = jax.vjp(xla, x.astype(jnp.float32), kernel.astype(jnp.float32))
    got, got_vjp = jax.vjp(ours, x, kernel)
    # For images smaller than the kernel XLA's plain loops add up in another order than its products, which are ours.
    if dtype == jnp.float32 and min(rows, columns) >= size:
        np.testing.assert_array_equal(got, want)
    dy = jnp.asarray(rng.normal(size=want.shape), dtype)
    for a, b in zip((got, *got_vjp(dy)), (want, *want_vjp(dy.astype(jnp.float32))), strict=True):
        assert a.dtype == dtype
        # bfloat16 has 8 bits: the operands are the same, so only the result is rounded.
        rounding = 1e-4 if dtype == jnp.float32 else 2**-8
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=rounding, atol=1e-4)


def test_bfloat16_sums_in_float32():
    # 2**12 ones: summed in bfloat16, whose integers end at 256, the gradient would stick far below.
    x = jnp.ones((64, 8, 8, 1), jnp.bfloat16)
    kernel = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    _, vjp = jax.vjp(lambda kernel: convolution.conv_general_dilated(x, kernel, (1, 1), "SAME"), kernel)
    (gradient,) = vjp(jnp.ones((64, 8, 8, 1), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16 and float(gradient[0, 0, 0, 0]) == 4096.0


def test_grouped_and_dilated_convolutions_are_refused():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
    with pytest.raises(AssertionError):
        convolution.conv_general_dilated(x, kernel, (1, 1), "SAME", feature_group_count=2)
