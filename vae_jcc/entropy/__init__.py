"""Entropy models: probabilities of latents, in bits."""

from vae_jcc.entropy.factorized import FactorizedPrior, bin_bits, bin_prob, quantile, quantization_offset

__all__ = ["FactorizedPrior", "bin_bits", "bin_prob", "quantile", "quantization_offset"]
