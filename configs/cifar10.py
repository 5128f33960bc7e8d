"""CIFAR-10, residual encoder of 75,596 parameters, 8x8x12 latent.

Command:   python -m vae_jcc.main --config=configs/cifar10.py [--config.loss.lam=0.5]
Hardware:  one GPU, or 2 CPU cores for a night
Expect:    results/ holds what was measured, with the command of each figure

Fine-tune along lam from a trained run: --config.init_from=runs/cifar10/best --config.train.epochs=4
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the configuration: default.py's own values are this model's."""
    c = default.get_config()
    c.name = "cifar10"
    return c


def train_on_gpu(c: ConfigDict) -> None:
    """Sets what a GPU's recipe has in place of a CPU's: bfloat16, large batches, rare validations (short epochs)."""
    c.compute_dtype = "bfloat16"
    c.optim.learning_rate = 0.5
    c.optim.warmup_epochs = 3.0
    c.train.batch_size = 512
    c.eval.batch_size = 2500
    c.eval.every_epochs = 5.0
    c.checkpoint.every_epochs = 20.0
    c.artifact_dtype = "float16"
