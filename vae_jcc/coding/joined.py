"""Many images of one size in few messages, where nobody has to take single images out.

latents i32 [h, w, c] --as many as `images_a_group`--> one payload a group --> joined stream

A small image's share of a stream is its payload, a byte of the index and the end of its message, some 3 bits. At a few
hundred bits an image that is 5 % of all; a group has it once.
"""

import numpy as np

from vae_jcc.coding.codec import LatentCodec
from vae_jcc.coding.container import images_a_group, pack_joined
from vae_jcc.coding.context_codec import ContextCodec


class JoinedWriter:
    """Writes a joined stream; only the latents of a group that is not full are kept, and payloads."""

    def __init__(self, codec: LatentCodec | ContextCodec, fingerprint: bytes) -> None:
        """Takes the model's codec and its fingerprint, 32 bytes."""
        self._codec, self._fingerprint = codec, fingerprint
        self._size: tuple[int, int] | None = None
        self._waiting: list[np.ndarray] = []
        self._groups: list[tuple[int, bytes]] = []

    def add(self, symbols: np.ndarray, size: tuple[int, int]) -> None:
        """Appends an image's symbols, int32 [h, w, c], and its (height, width) in pixels, as it came in.

        Raises:
            ValueError: the image has not the size of the first one; it is left out.
        """
        self._size = self._size or size
        if size != self._size:
            raise ValueError(
                f"A joined stream holds images of one size: this one has {size[0]} x {size[1]} pixels, the first "
                f"{self._size[0]} x {self._size[1]}. Bring them to one size, or do not join them."
            )
        self._waiting.append(symbols)
        if len(self._waiting) == images_a_group(*size):
            self._close_group()

    def finish(self) -> bytes:
        """Returns the stream.

        Raises:
            ValueError: there is no image.
        """
        if self._size is None:
            raise ValueError("A stream needs images; got none.")
        if self._waiting:
            self._close_group()
        return pack_joined(self._groups, self._fingerprint, self._size, self._codec.coder_id)

    def _close_group(self) -> None:
        self._groups.append((len(self._waiting), self._codec.encode_joined(np.stack(self._waiting))))
        self._waiting = []
