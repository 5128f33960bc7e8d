"""The frame of all containers of docs/bitstream.md: what comes before the payloads, and the checksum behind them.

    magic  flags  fingerprint[2]  [count]  [height  width]  ...  crc32

The checksum is taken over the model's whole 32-byte fingerprint and everything before the checksum: it refuses the
model whose first two bytes happen to agree, and every flipped bit. Reading allocates nothing that is only claimed.
"""

import zlib
from dataclasses import dataclass

from vae_jcc.coding.coder import CODERS
from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.fields import FieldReader

VERSION = 1
# 33 million, such as 8,192 x 4,096: whoever knows a model can write a file of a few bytes that announces any size, and
# the shipped model's classifier takes some 150 bytes of memory a pixel.
MAX_PIXELS = 2**25

_MAGIC = 0xCA
# Bits of the flags byte: version << 5 | stream | sizes differ | joined | coder id
STREAM, SIZES_DIFFER, JOINED = 0x10, 0x08, 0x04
_VERSION_SHIFT, _CODER_MASK = 5, 0x03
_FINGERPRINT_BYTES, _SHORT_BYTES, _CRC_BYTES = 32, 2, 4


@dataclass(frozen=True)
class Header:
    """What compressed data says about itself; all of it can be read without a model.

    Attributes:
        version: of the format.
        kind: "file" (one image), "stream", or "joined stream" (its payloads hold several images each).
        coder_id: which entropy coder made the payloads, a place in `CODERS` (or a newer one).
        fingerprint16: the first two bytes of the model's fingerprint.
        count: number of images.
        height: of every image, in pixels; None in a stream whose sizes differ.
        width: likewise.
        header_bytes: bytes before the first payload, or in a stream before the index of its payloads.
    """

    version: int
    kind: str
    coder_id: int
    fingerprint16: bytes
    count: int
    height: int | None
    width: int | None
    header_bytes: int


def peek(data: bytes) -> Header:
    """Returns the header of a file or stream without a model; nothing is verified beyond the header's own form.

    Args:
        data: the file or stream, or at least its first 24 bytes.

    Raises:
        BitstreamError: the data is not vae_jcc's, newer, or truncated within the header.
    """
    return _read_header(FieldReader(data, len(data)))


def open_container(data: bytes, fingerprint: bytes, kind: str, max_pixels: int) -> tuple[Header, FieldReader]:
    """Reads and checks a header; the reader stands behind it and ends before the checksum."""
    _check_fingerprint(fingerprint)
    # Magic and version come first, so that a foreign or newer file is called so, however short.
    _read_flags(FieldReader(data, len(data)))
    if len(data) < 2 + _SHORT_BYTES + _CRC_BYTES:
        raise BitstreamError(f"The data is truncated: {len(data)} bytes hold no header and checksum.")
    reader = FieldReader(data, len(data) - _CRC_BYTES)
    header = _read_header(reader)
    if header.kind != kind:
        reads = {"file": "unpack_file", "stream": "unpack_stream", "joined stream": "unpack_joined"}[header.kind]
        raise BitstreamError(f"This is a {header.kind}, not a {kind}: read it with {reads}.")
    if header.coder_id >= len(CODERS):
        raise BitstreamError(
            f"The payloads were written by entropy coder {header.coder_id}, which this version does not know: "
            "update vae_jcc."
        )
    if header.fingerprint16 != fingerprint[:_SHORT_BYTES]:
        raise BitstreamError(
            f"The data was made by another model: its fingerprint begins {header.fingerprint16.hex()}, this model's is "
            f"{fingerprint.hex()}. Load the model that made it."
        )
    if header.height is not None and header.width is not None:
        check_pixels(header.height, header.width, max_pixels)
    return header, reader


def _read_flags(reader: FieldReader) -> int:
    if not reader.data:
        raise BitstreamError("Not a vae_jcc file: it is empty.")
    if reader.byte() != _MAGIC:
        raise BitstreamError("Not a vae_jcc file: its first byte differs.")
    flags = reader.byte()
    version = flags >> _VERSION_SHIFT
    if version == 0:
        raise BitstreamError("The header is altered: there is no format version 0.")
    if version != VERSION:
        raise BitstreamError(f"The data has a newer format, {version}; this version reads {VERSION}: update vae_jcc.")
    return flags


def _read_header(reader: FieldReader) -> Header:
    flags = _read_flags(reader)
    stream, differ, joined = bool(flags & STREAM), bool(flags & SIZES_DIFFER), bool(flags & JOINED)
    if differ and (joined or not stream):
        what = "file" if not stream else "joined stream"
        raise BitstreamError(f"The header is altered: a {what} has one size, and its flags say that sizes differ.")
    if joined and not stream:
        raise BitstreamError("The header is altered: a file has one image, and its flags say that many are joined.")
    short = bytes(reader.byte() for _ in range(_SHORT_BYTES))
    count = reader.varint() if stream else 1
    if not count:
        raise BitstreamError("The header is altered: the stream announces no images.")
    height, width = (None, None) if differ else (reader.side(), reader.side())
    return Header(
        version=flags >> _VERSION_SHIFT,
        kind="joined stream" if joined else "stream" if stream else "file",
        coder_id=flags & _CODER_MASK,
        fingerprint16=short,
        count=count,
        height=height,
        width=width,
        header_bytes=reader.at,
    )


def start(flags: int, fingerprint: bytes, coder_id: int) -> bytes:
    """Returns the first four bytes: magic, flags (the bits above, without version and coder) and fingerprint.

    Raises:
        ValueError: the fingerprint has not 32 bytes, or there can be no such coder.
    """
    _check_fingerprint(fingerprint)
    if not 0 <= coder_id <= _CODER_MASK:
        raise ValueError(f"Coder ids are 0..{_CODER_MASK}, not {coder_id}.")
    return bytes([_MAGIC, VERSION << _VERSION_SHIFT | flags | coder_id]) + fingerprint[:_SHORT_BYTES]


def seal(data: bytes, fingerprint: bytes) -> bytes:
    """Returns data with the checksum behind it."""
    return data + zlib.crc32(data, zlib.crc32(fingerprint)).to_bytes(_CRC_BYTES, "little")


def verify(data: bytes, fingerprint: bytes, cause: str) -> None:
    """Checks the checksum at the end of data.

    Raises:
        BitstreamError: it differs; `cause` is what may have happened, such as "altered".
    """
    body = memoryview(data)[:-_CRC_BYTES]
    if zlib.crc32(body, zlib.crc32(fingerprint)) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise BitstreamError(
            f"The data is {cause}, or made by another model whose fingerprint begins like this one's, "
            f"{fingerprint.hex()}: its checksum differs."
        )


def _check_fingerprint(fingerprint: bytes) -> None:
    if len(fingerprint) != _FINGERPRINT_BYTES:
        raise ValueError(f"A model's fingerprint has {_FINGERPRINT_BYTES} bytes, not {len(fingerprint)}.")


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Checks an image's size.

    Raises:
        BitstreamError: it has more than `max_pixels`.
    """
    if height * width > max_pixels:
        raise BitstreamError(
            f"The image is over max_pixels: {height} x {width} is more than {max_pixels} pixels; raise the limit to "
            "read it if you trust its source."
        )
