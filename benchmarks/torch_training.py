"""The network and the training step of benchmarks/training.py in PyTorch: the same layers, the same work.

It covers "residual" and "patchify" encoders with a factorized prior and "mixed" quantization, trained by SGD (Adam on
the prior). On a GPU everything is there: the batch is copied to it, augmented on it and never waited for but at the
end of a step; config.compute_dtype="bfloat16" means autocast.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Block(nn.Module):
    """Pre-activation residual block."""

    def __init__(self, c_in: int, c_out: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=bias)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=bias)
        same = stride == 1 and c_in == c_out
        self.shortcut = None if same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        h = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(F.relu(self.norm2(self.conv1(h)), inplace=True)) + shortcut


def stages(c_in: int, spec: Any, bias: bool) -> list[nn.Module]:
    """Returns residual stages and the norm behind them."""
    layers: list[nn.Module] = []
    for features, blocks, stride in spec:
        for j in range(blocks):
            layers.append(Block(c_in, features, stride if j == 0 else 1, bias))
            c_in = features
    return [*layers, nn.BatchNorm2d(c_in)]


class Prior(nn.Module):
    """The deep factorized prior."""

    def __init__(self, channels: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (1, *filters, 1)
        self.matrices = nn.ParameterList(
            torch.full((channels, b, a), 0.5) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.biases = nn.ParameterList(torch.rand(channels, b) - 0.5 for b in sizes[1:])
        self.factors = nn.ParameterList(torch.zeros(channels, b) for b in filters)

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """Returns the logits of the cumulative distribution at y [channels, 1, n]."""
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            y = torch.baddbmm(bias[:, :, None], F.softplus(matrix), y)
            if k < len(self.factors):
                y = y + torch.tanh(self.factors[k])[:, :, None] * torch.tanh(y)
        return y

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Returns the bits of a whole batch [B, channels, h, w]."""
        rows = y.permute(1, 0, 2, 3).reshape(y.shape[1], 1, -1)
        lower, upper = self.logits(rows - 0.5), self.logits(rows + 0.5)
        gap = (upper - lower).clamp_min(1e-6)
        log_prob = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
        return -log_prob.sum() / np.log(2)


class Joint(nn.Module):
    """Encoder, prior, straight-through rounding and classifier."""

    def __init__(self, config: ConfigDict, channels: int, classes: int) -> None:
        super().__init__()
        e, k, latent = config.model.encoder, config.model.classifier, config.model.latent_channels
        if e.as_published or config.entropy.kind != "factorized" or config.optim.rate_optimizer:
            raise SystemExit("PyTorch's side has no models of the paper's kind: choose another --config.")
        pad = (e.stem_kernel - e.stem_stride + 1) // 2
        layers: list[nn.Module] = [nn.Conv2d(channels, e.stem_features, e.stem_kernel, e.stem_stride, pad, bias=False)]
        if e.stem_pool:
            layers.append(nn.MaxPool2d(3, 2, 1))
        layers += stages(e.stem_features, e.stages, e.conv_bias)
        if e.latent_kernel:
            last = nn.Conv2d(e.stages[-1][0], latent, e.latent_kernel, padding=e.latent_kernel // 2)
            layers += [nn.ReLU(), last]
        self.encoder = nn.Sequential(*layers)
        self.prior = Prior(latent, tuple(config.entropy.filters))
        first = nn.Conv2d(latent, k.stages[0][0], k.stem_kernel, padding=k.stem_kernel // 2, bias=False)
        self.classifier = nn.Sequential(first, *stages(k.stages[0][0], k.stages, False), nn.ReLU())
        self.logits = nn.Linear(k.stages[-1][0], classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits [B, K] and the bits of the batch, of images [B, C, H, W] in [0, 1]."""
        y = self.encoder((images - 0.5) * 4).float()
        with torch.autocast(images.device.type, enabled=False):  # the rate is float32 on both sides
            bits = self.prior(y + torch.rand_like(y) - 0.5)
        y_hat = y + (torch.round(y) - y).detach()
        return self.logits(self.classifier(y_hat).float().mean((2, 3))), bits


def augmented(images: torch.Tensor, border: int, height: int, width: int) -> torch.Tensor:
    """Returns random crops, mirrored or not, float32 [B, C, height, width], of uint8 [B, H, W, C] with a border."""
    x = images.permute(0, 3, 1, 2).float()
    x = F.pad(x, (border,) * 4, mode="reflect") if border else x
    size, device = len(x), x.device
    top = torch.randint(0, x.shape[2] - height + 1, (size, 1), device=device)
    left = torch.randint(0, x.shape[3] - width + 1, (size, 1), device=device)
    i = top + torch.arange(height, device=device)
    j = left + torch.arange(width, device=device)
    j = torch.where(torch.rand(size, 1, device=device) < 0.5, j, j.flip(1))
    x = x[torch.arange(size, device=device)[:, None, None], :, i[:, :, None], j[:, None, :]]  # [B, H, W, C]
    return (x / 255).permute(0, 3, 1, 2)


def make_step(
    config: ConfigDict, batch: dict[str, np.ndarray], classes: int, compiled: bool
) -> tuple[int, Callable[[], None]]:
    """Returns (parameters, a function that trains on the batch once), on a GPU where there is one.

    Args:
        config: the complete configuration.
        batch: "image" uint8 [B, H, W, C] and "label" int32 [B].
        classes: of the labels.
        compiled: through torch.compile.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = config.dataset.image_size
    height, width = (side, side) if side else batch["image"].shape[1:3]
    model = Joint(config, batch["image"].shape[3], classes).to(device, memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32, as JAX's default
    torch.backends.cudnn.allow_tf32 = True
    averaged = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    network = [p for name, p in model.named_parameters() if not name.startswith("prior")]
    optimizers = _optimizers(config, model, network)
    forward = torch.compile(model) if compiled else model
    low_precision = config.compute_dtype == "bfloat16"

    def step() -> None:
        images = torch.from_numpy(batch["image"]).to(device, non_blocking=True)
        labels = torch.from_numpy(batch["label"]).to(device, non_blocking=True).long()
        images = augmented(images, config.augment.crop_padding, height, width)
        with torch.autocast(device, torch.bfloat16, enabled=low_precision):
            logits, bits = forward(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.loss.label_smoothing)
        loss = loss + config.loss.lam * bits / (len(labels) * height * width)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network, config.optim.clip_norm, foreach=True)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            new = [*model.parameters(), *model.buffers()]
            floats = [(a, n) for a, n in zip(averaged, new, strict=True) if a.is_floating_point()]
            torch._foreach_lerp_([a for a, _ in floats], [n for _, n in floats], 1 - config.optim.ema_decay)
        loss.item()

    return sum(p.numel() for p in model.parameters()), step


def _optimizers(config: ConfigDict, model: Joint, network: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    o = config.optim
    kernels, vectors = [p for p in network if p.ndim > 1], [p for p in network if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": o.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, o.learning_rate, momentum=o.momentum, nesterov=True, foreach=True)
    return [sgd, torch.optim.Adam(list(model.prior.parameters()), o.prior_learning_rate, foreach=True)]
