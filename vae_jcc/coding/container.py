"""The two formats around payloads: a file holds one image, a stream many with one header.

    file    magic  flags  fingerprint[2]  height  width                   payload   CRC-32[4]
    stream  magic  flags  fingerprint[2]  count   base  [height  width]
            count x ( [height  width]  length - base )                    payloads  CRC-32[4]

Integers without a size are variable-length (7 bits a byte, low bits first). The checksum covers
the model's whole fingerprint, the header and the payloads; the two fingerprint bytes in the header
only serve to name a wrong model as such. docs/bitstream.md is the specification.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vae_jcc.coding.errors import BitstreamError

MAGIC = 0xC5
FORMAT_VERSION = 1
DEFAULT_MAX_PIXELS = 2**26  # 67 megapixels
CHECKSUM_BYTES = 4
FINGERPRINT_BYTES = 32

_VERSION_MASK, _STREAM_FLAG, _SIZES_FLAG = 0b0000_0111, 0b0000_1000, 0b0001_0000
_CODER_SHIFT, _CODER_MASK, _RESERVED_FLAG = 5, 0b11, 0b1000_0000
_MAX_INTEGER = 2**31 - 1

Size = tuple[int, int]


@dataclass(frozen=True)
class Header:
    """What a file or stream says about itself; readable without the model.

    Attributes:
        version: of the format.
        kind: "file" (one image) or "stream".
        coder_id: entropy coder of the payloads; 0 is the range coder.
        fingerprint16: first two bytes of the model's fingerprint.
        height: of every image, in pixels; None where a stream's sizes differ.
        width: likewise.
        count: number of images.
        header_bytes: bytes before the index (file: before the payload).
        index_bytes: bytes of the stream's index of lengths and sizes; 0 in a file.
        payload_bytes: bytes of all payloads.
        checksum_bytes: bytes of the checksum.
    """

    version: int
    kind: Literal["file", "stream"]
    coder_id: int
    fingerprint16: bytes
    height: int | None
    width: int | None
    count: int
    header_bytes: int
    index_bytes: int
    payload_bytes: int
    checksum_bytes: int = CHECKSUM_BYTES

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole file or stream."""
        return self.header_bytes + self.index_bytes + self.payload_bytes + self.checksum_bytes


def pack_file(payload: bytes, fingerprint: bytes, height: int, width: int, coder_id: int = 0) -> bytes:
    """Returns a file with one image: header, payload, checksum.

    Args:
        payload: of `LatentCodec.encode`.
        fingerprint: of the model, 32 bytes.
        height: of the image in pixels, before any padding.
        width: likewise.
        coder_id: of the codec.

    Returns:
        len(payload) + 10 bytes up to 127 x 127 pixels, + 12 up to 16383 x 16383.

    Raises:
        ValueError: a size, the fingerprint or the coder id is out of range.
    """
    head = _first_bytes(fingerprint, coder_id, 0) + _size_bytes(height, width)
    return _seal(head + payload, fingerprint)


def pack_stream(
    payloads: Sequence[bytes], fingerprint: bytes, sizes: Size | Sequence[Size], coder_id: int = 0
) -> bytes:
    """Returns a stream: one header and checksum for all images.

    Args:
        payloads: of `LatentCodec.encode_batch`, any number.
        fingerprint: of the model, 32 bytes.
        sizes: (height, width) in pixels of all images, or of each; written once if all are equal.
        coder_id: of the codec.

    Returns:
        Payloads + at most 20 bytes in all + 1 byte an image whose payload is less than 128 bytes
        longer than the shortest (2 bytes: less than 16384), and 2 to 4 bytes an image if sizes
        differ.

    Raises:
        ValueError: numbers of payloads and sizes differ, or as `pack_file`.
    """
    each = _size_of_each(sizes, len(payloads))
    common = len(set(each)) <= 1
    base = min(map(len, payloads), default=0)
    flags = _STREAM_FLAG | (0 if common else _SIZES_FLAG)
    parts = [_first_bytes(fingerprint, coder_id, flags), _varint(len(payloads)), _varint(base)]
    if common:
        # A stream of no images still has one size, so that every stream parses alike.
        parts.append(_size_bytes(*(each[0] if each else (1, 1))))
    for payload, size in zip(payloads, each, strict=True):
        if not common:
            parts.append(_size_bytes(*size))
        parts.append(_varint(len(payload) - base))
    return _seal(b"".join(parts) + b"".join(payloads), fingerprint)


def unpack_file(data: bytes, fingerprint: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[Header, bytes]:
    """Checks a file against the model and returns its header and payload.

    Args:
        data: the whole file.
        fingerprint: of the model that is to decode it, 32 bytes.
        max_pixels: largest height * width to accept.

    Raises:
        BitstreamError: not a vae_jcc file, a stream, newer, of another model, too large, truncated,
            or altered.
    """
    reader = _read_and_verify(data, fingerprint, max_pixels)
    if reader.header.kind != "file":
        raise BitstreamError("This is a stream of images, not a file of one: read it as a stream.")
    return reader.header, reader.payloads(data)[0]


def unpack_stream(
    data: bytes, fingerprint: bytes, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[Header, list[bytes], list[Size]]:
    """Checks a stream against the model; returns its header, payloads and (height, width) of each.

    Args:
        data: the whole stream.
        fingerprint: of the model that is to decode it, 32 bytes.
        max_pixels: largest height * width to accept for one image; decode in batches that fit the
            memory, since a stream may hold many.

    Raises:
        BitstreamError: not a vae_jcc stream, a file, newer, of another model, too large, truncated,
            or altered.
    """
    reader = _read_and_verify(data, fingerprint, max_pixels)
    if reader.header.kind != "stream":
        raise BitstreamError("This is a file of one image, not a stream: read it as a file.")
    return reader.header, reader.payloads(data), reader.sizes


def peek(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Header:
    """Reads the header of a file or stream without a model; the checksum is not verified.

    Raises:
        BitstreamError: not vae_jcc data, newer, too large, or truncated.
    """
    return _Layout(data, None, max_pixels).header


class _Layout:
    """Parses everything before the payloads, checking each claim against the bytes present."""

    def __init__(self, data: bytes, fingerprint: bytes | None, max_pixels: int) -> None:
        self._data = data
        self._end = len(data) - CHECKSUM_BYTES
        self._max_pixels = max_pixels
        flags, fingerprint16 = self._read_first_bytes(fingerprint)
        self._at = 4
        self.sizes: list[Size] = []
        self.lengths: list[int] = []
        if flags & _STREAM_FLAG:
            start = self._read_stream(bool(flags & _SIZES_FLAG))
        else:
            self.sizes.append(self._size())
            start = self._at
            self.lengths.append(self._end - self._at)
        one_size = self.sizes[0] if len(set(self.sizes)) == 1 else (None, None)
        self.header = Header(
            version=flags & _VERSION_MASK,
            kind="stream" if flags & _STREAM_FLAG else "file",
            coder_id=flags >> _CODER_SHIFT & _CODER_MASK,
            fingerprint16=fingerprint16,
            height=one_size[0],
            width=one_size[1],
            count=len(self.lengths),
            header_bytes=start,
            index_bytes=self._at - start,
            payload_bytes=self._end - self._at,
        )

    def payloads(self, data: bytes) -> list[bytes]:
        """Cuts the payloads out of the data."""
        cuts, at = [], self._at
        for length in self.lengths:
            cuts.append(data[at : at + length])
            at += length
        return cuts

    def _read_first_bytes(self, fingerprint: bytes | None) -> tuple[int, bytes]:
        data = self._data
        if not data:
            raise BitstreamError("Empty input: not a vae_jcc file or stream.")
        if data[0] != MAGIC:
            raise BitstreamError(f"Not a vae_jcc file or stream: byte 0 is {data[0]:#04x}, not {MAGIC:#04x}.")
        if len(data) < 4 + CHECKSUM_BYTES:
            raise BitstreamError(f"Truncated: {len(data)} bytes are less than any file or stream has.")
        flags, fingerprint16 = data[1], bytes(data[2:4])
        version = flags & _VERSION_MASK
        if version == 0 or (version <= FORMAT_VERSION and flags & _RESERVED_FLAG):
            raise BitstreamError("Altered, or not a vae_jcc file: its second byte is not valid.")
        if version > FORMAT_VERSION:
            raise BitstreamError(
                f"Written in format {version} by a newer vae_jcc; this one reads up to "
                f"{FORMAT_VERSION}: update vae_jcc."
            )
        if flags & _SIZES_FLAG and not flags & _STREAM_FLAG:
            raise BitstreamError("Altered: a file of one image claims that its sizes differ.")
        if fingerprint is not None and fingerprint16 != fingerprint[:2]:
            raise BitstreamError(
                f"Made by another model (or altered): its fingerprint begins with {fingerprint16.hex()}, "
                f"this model's with {fingerprint[:2].hex()}; decode it with the model that encoded it."
            )
        return flags, fingerprint16

    def _read_stream(self, sizes_differ: bool) -> int:
        """Reads a stream's counts and index; returns where the index starts."""
        count, base = self._varint(), self._varint()
        common = None if sizes_differ else self._size()
        start = self._at
        # Each image has at least one byte of index, which bounds the lists below.
        if count > self._end - self._at or count * base > self._end - self._at:
            raise BitstreamError(
                f"Truncated or altered: {count} images of {base} bytes or more cannot be in {len(self._data)} bytes."
            )
        for _ in range(count):
            self.sizes.append(common or self._size())
            self.lengths.append(base + self._varint())
        missing = sum(self.lengths) - (self._end - self._at)
        if missing > 0:
            raise BitstreamError(f"Truncated: {missing} bytes of the payloads are missing.")
        if missing < 0:
            raise BitstreamError(f"Altered: {-missing} bytes too many follow the payloads.")
        return start

    def _size(self) -> Size:
        height, width = self._varint(), self._varint()
        if height < 1 or width < 1:
            raise BitstreamError(f"Altered: an image of {height} x {width} pixels cannot exist.")
        if height * width > self._max_pixels:
            raise BitstreamError(
                f"Image of {height} x {width} pixels is over the limit of {self._max_pixels} pixels: "
                "altered, or raise max_pixels if you trust its source."
            )
        return height, width

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            if self._at >= self._end:
                raise BitstreamError("Truncated within the header.")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or value > _MAX_INTEGER:
                    break
                return value
        raise BitstreamError("Altered: the header holds an integer that no encoder writes.")


def _read_and_verify(data: bytes, fingerprint: bytes, max_pixels: int) -> _Layout:
    _check_fingerprint(fingerprint)
    layout = _Layout(data, fingerprint, max_pixels)
    body, checksum = memoryview(data)[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(body, fingerprint) != checksum:
        raise BitstreamError(
            "Truncated, altered, or made by another model whose short fingerprint is the same: the checksum differs."
        )
    return layout


def _first_bytes(fingerprint: bytes, coder_id: int, flags: int) -> bytes:
    _check_fingerprint(fingerprint)
    if not 0 <= coder_id <= _CODER_MASK:
        raise ValueError(f"Coder id {coder_id} does not fit into the header's two bits (0..3).")
    return bytes([MAGIC, FORMAT_VERSION | flags | coder_id << _CODER_SHIFT]) + fingerprint[:2]


def _check_fingerprint(fingerprint: bytes) -> None:
    if len(fingerprint) != FINGERPRINT_BYTES:
        raise ValueError(f"A fingerprint has {FINGERPRINT_BYTES} bytes, not {len(fingerprint)}.")


def _size_of_each(sizes: Size | Sequence[Size], count: int) -> list[Size]:
    if len(sizes) == 2 and all(isinstance(s, int) for s in sizes):
        return [(int(sizes[0]), int(sizes[1]))] * count  # type: ignore[arg-type]
    each = [(int(h), int(w)) for h, w in sizes]  # type: ignore[misc]
    if len(each) != count:
        raise ValueError(f"{count} payloads need as many sizes; got {len(each)}.")
    return each


def _size_bytes(height: int, width: int) -> bytes:
    if not (1 <= height <= _MAX_INTEGER and 1 <= width <= _MAX_INTEGER):
        raise ValueError(f"An image of {height} x {width} pixels cannot be described.")
    return _varint(height) + _varint(width)


def _varint(value: int) -> bytes:
    """LEB128: 7 bits a byte from the lowest on, the top bit set on all but the last byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _seal(body: bytes, fingerprint: bytes) -> bytes:
    return body + _checksum(body, fingerprint)


def _checksum(body: bytes | memoryview, fingerprint: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(fingerprint)).to_bytes(CHECKSUM_BYTES, "big")
