"""CIFAR-10, a network to learn from that is as large as a ResNet-18: for a GPU.

Command:   python -m vae_jcc.main --config=configs/cifar10_teacher_wide.py --workdir=runs/teacher
Hardware:  one GPU for minutes (bfloat16, batches of 512)

Like cifar10_teacher.py it looks at every pixel, and next to nothing weighs on its rate.
"""

from ml_collections import ConfigDict

from configs import cifar10, cifar10_teacher


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10_teacher.get_config()
    c.name = "cifar10_teacher_wide"
    cifar10.train_on_gpu(c)
    c.artifact_compute_dtype = "bfloat16"
    c.model.encoder.stem_features = 64
    c.model.encoder.stages = ((64, 1, 1), (128, 2, 2), (256, 2, 2))
    c.model.classifier.stages = ((256, 1, 1),)
    c.train.epochs = 40.0
    return c
