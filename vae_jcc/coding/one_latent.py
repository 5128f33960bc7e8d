"""What every codec does with one latent: a batch of one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class OneLatent(ABC):
    """Gives a codec of batches `encode` and `decode` of a single latent."""

    @abstractmethod
    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Returns the payload of each latent of int32 [B, h, w, c]."""

    @abstractmethod
    def decode_batch(self, payloads: Sequence[bytes], shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [B, h, w, c], of payloads that share one latent grid (h, w)."""

    def encode(self, symbols: np.ndarray) -> bytes:
        """Returns the payload of one latent, int32 [h, w, c], any values.

        Raises:
            ValueError: wrong dtype or shape.
        """
        return self.encode_batch(np.asarray(symbols)[None])[0]

    def decode(self, payload: bytes, shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [h, w, c], of a payload whose latent grid is `shape` = (h, w).

        Raises:
            BitstreamError: no encoder can have written the payload.
            ValueError: the shape is not two positive integers.
        """
        return self.decode_batch([payload], shape)[0]
