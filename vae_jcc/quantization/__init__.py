"""What stands in for rounding while the model trains."""

from vae_jcc.quantization.noise import add_uniform_noise
from vae_jcc.quantization.quantizer import Centres, Quantizer, Rounding
from vae_jcc.quantization.rounding import dequantize, quantize, straight_through_round
from vae_jcc.quantization.soft_to_hard import LearnedCentres, soft_to_hard

__all__ = [
    "Centres",
    "LearnedCentres",
    "Quantizer",
    "Rounding",
    "add_uniform_noise",
    "dequantize",
    "quantize",
    "soft_to_hard",
    "straight_through_round",
]
