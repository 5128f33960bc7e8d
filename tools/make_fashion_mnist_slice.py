"""Makes the bundled slice of Fashion-MNIST from the four IDX files of the original.

    apt-get install dataset-fashion-mnist
    python tools/make_fashion_mnist_slice.py

The same files always give the same bytes: the choice is seeded, and the archive carries no
time stamps. The SHA-256 of the arrays that it prints are those in the slice's README and test.
"""

import argparse
import gzip
import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np

SEED = 20170828  # the day that Fashion-MNIST appeared (arXiv:1708.07747)
PER_CLASS = {"train": 1000, "test": 200}
IDX_PREFIX = {"train": "train", "test": "t10k"}
TARGET = Path(__file__).parent.parent / "vae_jcc" / "data" / "bundled" / "fashion_mnist"


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzip-compressed IDX file of unsigned bytes (yann.lecun.com/exdb/mnist)."""
    data = gzip.decompress(path.read_bytes())
    zeros, dtype_code, rank = struct.unpack(">HBB", data[:4])
    if zeros != 0 or dtype_code != 0x08:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes.")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def balanced_choice(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Chooses `per_class` examples of each class, laid out in rounds.

    Every run of as many examples as there are classes holds each class once, so that a slice
    such as train[:90%] stays balanced too.

    Returns:
        int64 [per_class * classes], indices into `labels`.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    chosen = np.stack([rng.permutation(np.flatnonzero(labels == k))[:per_class] for k in classes], axis=1)
    return rng.permuted(chosen, axis=1).reshape(-1)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz whose bytes depend on the arrays alone (np.savez stamps the time)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)


def main() -> None:
    """Reads the original, writes the slice and prints its checksums."""
    parser = argparse.ArgumentParser(description="Make the bundled slice of Fashion-MNIST.")
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    for split, prefix in IDX_PREFIX.items():
        images = read_idx(arguments.source / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(arguments.source / f"{prefix}-labels-idx1-ubyte.gz")
        index = balanced_choice(labels, PER_CLASS[split], SEED)
        arrays = {"images": images[index][..., None], "labels": labels[index]}
        path = arguments.target / f"{split}.npz"
        write_npz(path, arrays)
        print(f"{path}: {path.stat().st_size} bytes")
        for name, array in arrays.items():
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            print(f"  {name} {array.shape} {array.dtype} sha256 {digest}")


if __name__ == "__main__":
    main()
