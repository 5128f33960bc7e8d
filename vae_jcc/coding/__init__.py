"""Symbols to bytes and back: frozen integer tables, an entropy coder, escapes and containers.

Needs NumPy and constriction only, so it runs on a device without JAX. docs/bitstream.md is the
specification of everything that is written here.
"""

from vae_jcc.coding.codec import LatentCodec
from vae_jcc.coding.container import (
    DEFAULT_MAX_PIXELS,
    Header,
    pack_file,
    pack_stream,
    peek,
    unpack_file,
    unpack_stream,
)
from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.tables import CodingTables

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "BitstreamError",
    "CodingTables",
    "Header",
    "LatentCodec",
    "pack_file",
    "pack_stream",
    "peek",
    "unpack_file",
    "unpack_stream",
]
