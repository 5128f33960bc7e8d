"""What stands in for rounding while the model trains."""

from vae_jcc.quantization.noise import add_uniform_noise
from vae_jcc.quantization.rounding import dequantize, quantize, straight_through_round

__all__ = ["add_uniform_noise", "dequantize", "quantize", "straight_through_round"]
