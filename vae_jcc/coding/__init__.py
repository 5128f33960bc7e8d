"""Symbols to bytes and back: frozen integer tables, an entropy coder, and the formats of docs/bitstream.md.

This room needs NumPy and the coder's library only; it runs where neither JAX nor TensorFlow is installed.
"""

from vae_jcc.coding.codec import LatentCodec
from vae_jcc.coding.coder import CODERS
from vae_jcc.coding.container import (
    images_a_group,
    pack_file,
    pack_joined,
    pack_stream,
    unpack_file,
    unpack_joined,
    unpack_stream,
)
from vae_jcc.coding.context_codec import ContextCodec
from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.frame import MAX_PIXELS, Header, peek
from vae_jcc.coding.hyperprior import HyperpriorContext
from vae_jcc.coding.joined import JoinedWriter
from vae_jcc.coding.parallel_context import ParallelContext
from vae_jcc.coding.serial_context import SerialContext
from vae_jcc.coding.tables import CodingTables

__all__ = [
    "CODERS",
    "MAX_PIXELS",
    "BitstreamError",
    "CodingTables",
    "ContextCodec",
    "Header",
    "HyperpriorContext",
    "JoinedWriter",
    "LatentCodec",
    "ParallelContext",
    "SerialContext",
    "images_a_group",
    "pack_file",
    "pack_joined",
    "pack_stream",
    "peek",
    "unpack_file",
    "unpack_joined",
    "unpack_stream",
]
