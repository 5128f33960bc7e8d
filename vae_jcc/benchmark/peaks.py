"""Arithmetic peaks of common accelerators, so that a measured rate can be told as a share of what the device could do.

Dense matrix products (no structured sparsity), from the makers' data sheets, in TFLOP/s for each JAX device. float32 is
what JAX runs float32 products at by default: TF32 on NVIDIA's tensor cores, where the device has them, and bfloat16
passes on TPUs. A JAX device of TPU v2 and v3 is one core, half a chip.
"""

# device_kind (its beginning, whole words): (bfloat16, float32); None where the device lacks it.
PEAK_TFLOPS: dict[str, tuple[float | None, float]] = {
    "NVIDIA H100 80GB HBM3": (989.0, 494.0),  # SXM
    "NVIDIA H100 PCIe": (756.0, 378.0),
    "NVIDIA H100 NVL": (835.0, 417.0),
    "NVIDIA H200": (989.0, 494.0),
    "NVIDIA A100": (312.0, 156.0),
    "NVIDIA L4": (121.0, 60.0),
    "NVIDIA L40S": (362.0, 183.0),
    "NVIDIA A10G": (70.0, 35.0),
    "NVIDIA GeForce RTX 3090": (71.0, 35.6),
    "NVIDIA GeForce RTX 4090": (165.0, 82.6),
    "Tesla V100": (None, 15.7),
    "Tesla T4": (None, 8.1),
    "TPU v2": (22.5, 22.5),
    "TPU v3": (61.5, 61.5),
    "TPU v4": (275.0, 275.0),
    "TPU v5 lite": (197.0, 197.0),
    "TPU v5e": (197.0, 197.0),
    "TPU v5p": (459.0, 459.0),
    "TPU v5": (459.0, 459.0),  # as JAX calls v5p
    "TPU v6 lite": (918.0, 918.0),
    "TPU v6e": (918.0, 918.0),
}


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Returns the peak FLOP/s of one device for "bfloat16" or "float32" products; None where it is not known.

    Args:
        device_kind: as JAX names the device (`jax.devices()[0].device_kind`).
        dtype: of the products.
    """
    names = [name for name in PEAK_TFLOPS if f"{device_kind} ".replace("-", " ").startswith(f"{name} ")]
    if not names:
        return None
    bfloat16, float32 = PEAK_TFLOPS[max(names, key=len)]
    peak = bfloat16 if dtype == "bfloat16" else float32
    return None if peak is None else 1e12 * peak
