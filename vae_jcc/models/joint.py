"""The joint model: encoder, entropy model, classifier and optional decoder, trained together.

image --> Encoder --> y --+-- + noise ------> FactorizedPrior --> bits                (the rate always sees noise)
                          |
                          +-- quantizer ----> y_hat --+--> Classifier --> logits
                                                      +--> Decoder -----> image_hat   (optional)

With entropy.kind="parallel" the rate is that of the symbols, given the other symbols: a ParallelContextModel adds its
logits to the prior's. The prior then learns on its own, as what tables are made of, and the encoder does not see it.

With learned centres (soft_to_hard) the rate is that of the symbols themselves, hard forward and soft backward:

                      y --+-- centres --+---> y_hat --+--> Classifier --> logits, as above
                                        |             +--> ContextModel --> base-2 logits --+
                                        |                  (or CategoricalPrior)            +--> bits
                                        +---> one-hot target -------------------------------+

quantizer in training      noise               y + uniform noise, the same as the rate's
                           mixed               straight-through rounding
                           noise_then_hard     noise, then (phase "hard") rounding behind a frozen encoder
                           soft_to_hard        the nearest of L learned centres, with a soft assignment's gradient
                           hard                rounding behind the encoder and the prior of init_from, both frozen:
                                               a receiver for bytes that exist already
                           none                y itself: the network without a bottleneck, for references
quantizer in evaluation    always              rounding (soft_to_hard: the nearest centre; none: y itself)
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jcc.entropy.categorical import CategoricalPrior, target_bits
from vae_jcc.entropy.context import ContextModel, straight_through_bits
from vae_jcc.entropy.factorized import FactorizedPrior
from vae_jcc.entropy.parallel_context import ParallelContextModel, group_channels
from vae_jcc.models.classifier import Classifier
from vae_jcc.models.decoder import Decoder
from vae_jcc.models.encoder import Encoder
from vae_jcc.quantization import (
    LearnedCentres,
    add_uniform_noise,
    dequantize,
    quantize,
    soft_to_hard,
    straight_through_round,
)

QUANTIZERS = ("noise", "mixed", "noise_then_hard", "soft_to_hard", "hard", "none")
SYMBOLS = 12  # a context model that is trained with the encoder knows symbols -12..12
PARTS = ("encoder", "centres", "prior", "context", "classifier", "decoder")


class Outputs(NamedTuple):
    """What one pass returns."""

    logits: jax.Array  # float32 [B, K]
    bits: jax.Array  # float32 [B], of the whole latent, as the entropy model estimates them
    reconstruction: jax.Array | None  # float32 [B, H, W, C], where the model has a joint decoder


def _remat(config: ConfigDict) -> bool:
    if config.model.remat not in ("", "blocks"):
        raise ValueError(f"config.model.remat is {config.model.remat!r}: choose 'blocks', or '' for none.")
    return bool(config.model.remat == "blocks")


def _stages(stages: Any) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(f), int(b), int(s)) for f, b, s in stages)


def build_encoder(config: ConfigDict, axis_name: str | None = None) -> Encoder:
    """Returns the encoder that `config.model.encoder` describes.

    Raises:
        ValueError: the kind is unknown, a patchify stem's kernel differs from its stride, or the separable
            blocks' settings make none, or contradict `as_published` or `conv_bias`.
    """
    e = config.model.encoder
    if e.kind not in ("residual", "patchify"):
        raise ValueError(f"config.model.encoder.kind is {e.kind!r}: choose 'residual' or 'patchify'.")
    if e.kind == "patchify" and e.stem_kernel != e.stem_stride:
        raise ValueError(
            f"A patchify stem cuts the image into cells, so its kernel ({e.stem_kernel}) must equal its stride "
            f"({e.stem_stride}); for overlapping kernels choose kind='residual'."
        )
    if e.separable_kernel < 0 or e.expansion < 1:
        raise ValueError(
            f"config.model.encoder.separable_kernel is {e.separable_kernel} and expansion {e.expansion}: the kernel's "
            "side is 0 (dense blocks) or more, the expansion at least 1."
        )
    if e.separable_kernel and (e.as_published or e.conv_bias):
        raise ValueError(
            "config.model.encoder.separable_kernel makes blocks without biases that the 2022 paper does not have: "
            "leave as_published and conv_bias off, or separable_kernel at 0."
        )
    if e.latent_kernel == 0 and e.stages[-1][0] != config.model.latent_channels:
        raise ValueError(
            f"With latent_kernel=0 the last stage is the latent: its {e.stages[-1][0]} channels must equal "
            f"latent_channels={config.model.latent_channels}."
        )
    return Encoder(
        latent_channels=config.model.latent_channels,
        stem_features=e.stem_features,
        stem_kernel=e.stem_kernel,
        stem_stride=e.stem_stride,
        stem_pool=e.stem_pool,
        stages=_stages(e.stages),
        latent_kernel=e.latent_kernel,
        conv_bias=e.conv_bias,
        as_published=e.as_published,
        separable_kernel=e.separable_kernel,
        expansion=e.expansion,
        dtype=jnp.dtype(config.compute_dtype),
        axis_name=axis_name,
        remat=_remat(config),
    )


def build_classifier(config: ConfigDict, num_classes: int, axis_name: str | None = None) -> Classifier:
    """Returns the classifier that `config.model.classifier` describes, for `num_classes` classes."""
    k = config.model.classifier
    return Classifier(
        num_classes=num_classes,
        stages=_stages(k.stages),
        stem_kernel=k.stem_kernel,
        as_published=k.as_published,
        dtype=jnp.dtype(config.compute_dtype),
        axis_name=axis_name,
        remat=_remat(config),
    )


def build_decoder(config: ConfigDict, channels: int, axis_name: str | None = None) -> Decoder:
    """Returns the decoder that `config.model.decoder` describes, for images of `channels` channels."""
    return Decoder(
        channels=channels,
        stride=build_encoder(config).stride,
        features=config.model.decoder.features,
        blocks=config.model.decoder.blocks,
        dtype=jnp.dtype(config.compute_dtype),
        axis_name=axis_name,
        remat=_remat(config),
    )


class EntropyParts(NamedTuple):
    """What a latent is quantized and priced with: a prior, or learned centres with a prior or a context model."""

    prior: FactorizedPrior | CategoricalPrior | None
    context: ContextModel | ParallelContextModel | None = None
    centres: LearnedCentres | None = None


def build_entropy(config: ConfigDict) -> EntropyParts:
    """Returns the entropy model that `config.entropy` describes, and the centres of `config.quantizer`.

    Raises:
        ValueError: the kind is unknown or does not fit the quantizer, or there are too few centres.
    """
    channels, centres, kind = config.model.latent_channels, config.quantizer.centres, config.entropy.kind
    learned = config.quantizer.kind == "soft_to_hard"
    if kind not in (("categorical", "context") if learned else ("factorized", "parallel")):
        raise ValueError(
            f"config.entropy.kind is {kind!r} and config.quantizer.kind {config.quantizer.kind!r}: 'factorized' prices "
            "rounded latents, 'categorical' and 'context' those of 'soft_to_hard'."
        )
    if not learned:
        prior = FactorizedPrior(channels, tuple(config.entropy.filters), config.entropy.init_scale)
        if kind == "factorized":
            return EntropyParts(prior)
        groups = group_channels([1.0] * channels, config.entropy.context.groups)
        slots = 2 * SYMBOLS + 1
        return EntropyParts(prior, ParallelContextModel(tuple(groups.tolist()), slots, config.entropy.context.features))
    if centres < 2:
        raise ValueError(f"config.quantizer.centres is {centres}: soft_to_hard needs at least 2 centres.")
    if kind == "context":
        return EntropyParts(None, ContextModel(channels, centres), LearnedCentres(centres))
    return EntropyParts(CategoricalPrior(channels, centres), None, LearnedCentres(centres))


class JointModel(nn.Module):
    """The whole model; its parameters live under the names of its attributes (PARTS)."""

    encoder: Encoder
    classifier: Classifier
    decoder: Decoder | None
    prior: FactorizedPrior | CategoricalPrior | None
    context: ContextModel | ParallelContextModel | None = None
    centres: LearnedCentres | None = None

    def __call__(
        self, images: jax.Array, noise_keys: jax.Array | None = None, train: bool = False, quantizer: str = "mixed"
    ) -> Outputs:
        """Runs the model on images float32 [B, H, W, C] in [0, 1].

        Args:
            images: the batch.
            noise_keys: one PRNG key an example, [B]; needed in training.
            train: batch statistics and noise; False means running statistics and real rounding.
            quantizer: in training, what the classifier sees: "noise", "mixed", "hard" (rounding, and no gradient into
                the encoder, which then uses its running statistics). "none" holds in evaluation too.
                A model with learned centres always uses them.
        """
        frozen = quantizer == "hard"
        y = self.encoder(images, train=train and not frozen)
        if frozen:
            y = jax.lax.stop_gradient(y)
        if self.centres is not None:
            y_hat, bits = self._with_centres(y, self.centres())
        else:
            y_hat, bits = self._rounded(y, noise_keys, train, quantizer)
        logits = self.classifier(y_hat, train=train)
        reconstruction = None
        if self.decoder is not None:
            reconstruction = self.decoder(y_hat, (images.shape[1], images.shape[2]), train=train)
        return Outputs(logits, bits.sum(axis=(1, 2, 3)), reconstruction)

    def _rounded(
        self, y: jax.Array, noise_keys: jax.Array | None, train: bool, quantizer: str
    ) -> tuple[jax.Array, jax.Array]:
        """Returns y_hat and the bits of each latent, [B, h, w, c], by rounding or what stands in for it."""
        prior = cast(FactorizedPrior, self.prior)
        offset = prior.offset()
        if not train:
            y_hat = y_rate = dequantize(quantize(y, offset), offset)
        else:
            if noise_keys is None:
                raise ValueError("Training needs noise_keys, one PRNG key an example.")
            y_rate = add_uniform_noise(noise_keys, y)
            y_hat = y_rate if quantizer == "noise" else straight_through_round(y, offset)
        bits = prior.bits(y_rate) if self.context is None else self._given_others(y, y_hat, y_rate, offset)
        return y if quantizer == "none" else y_hat, bits

    def _given_others(self, y: jax.Array, y_hat: jax.Array, y_rate: jax.Array, offset: jax.Array) -> jax.Array:
        """Returns the bits of each symbol given those of the passes before it, [B, h, w, c]."""
        prior, context = cast(FactorizedPrior, self.prior), cast(ParallelContextModel, self.context)
        symbols = jnp.arange(-SYMBOLS, SYMBOLS + 1)
        of_prior = jax.lax.stop_gradient(-prior.bits(symbols[:, None] + offset).T)  # base-2 logits [c, slots]
        bits = straight_through_bits(of_prior + context(y_hat - offset), y - offset + SYMBOLS)
        alone = prior.bits(jax.lax.stop_gradient(y_rate))
        return bits + alone - jax.lax.stop_gradient(alone)  # adds 0, with a gradient for the prior

    def _with_centres(self, y: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns y_hat and the bits of each latent, [B, h, w, c], by learned centres."""
        y_hat, target = soft_to_hard(y, centres)
        logits = cast(CategoricalPrior, self.prior)() if self.context is None else self.context(y_hat)
        return y_hat, target_bits(logits, target)


def build_model(config: ConfigDict, num_classes: int, channels: int, axis_name: str | None = None) -> JointModel:
    """Returns the joint model for `num_classes` classes and images of `channels` channels.

    Args:
        config: the complete configuration.
        num_classes: of the data source.
        channels: 1 (grey) or 3 (RGB).
        axis_name: device axis of batch statistics, where the step runs once a device; else None.
    """
    decoder = build_decoder(config, channels, axis_name) if config.model.decoder.mode == "joint" else None
    return JointModel(
        encoder=build_encoder(config, axis_name),
        classifier=build_classifier(config, num_classes, axis_name),
        decoder=decoder,
        **build_entropy(config)._asdict(),
    )
