"""What a payload travels in: the file of one image and the streams of many, all in docs/bitstream.md.

    file    magic  flags  fingerprint[2]  height  width                                payload            crc32
    stream  magic  flags  fingerprint[2]  count  [height  width]  shortest  count x record  payloads      crc32
    joined  magic  flags  fingerprint[2]  count  height  width    a record for each group   payloads      crc32

The checksum is taken over the model's whole 32-byte fingerprint and everything before the checksum: it refuses the
model whose first two bytes happen to agree, and every flipped bit. Reading allocates nothing that is only claimed.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from vae_jcc.coding.coder import CODERS
from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.fields import FieldReader, side_bytes, varint_bytes

VERSION = 1
# 33 million, such as 8,192 x 4,096: whoever knows a model can write a file of a few bytes that announces any size, and
# the shipped model's classifier takes some 150 bytes of memory a pixel.
MAX_PIXELS = 2**25
# Of a group in a joined stream: what has to be in memory at once, at either end. The end of its message and its record
# cost some 4 bytes, shared out over 128 images of 32 x 32.
_GROUP_PIXELS, _GROUP_IMAGES = 2**17, 2**10

_MAGIC = 0xCA
# Bits of the flags byte: version << 5 | stream | sizes differ | joined | coder id
_STREAM, _SIZES_DIFFER, _JOINED = 0x10, 0x08, 0x04
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


def pack_file(payload: bytes, fingerprint: bytes, height: int, width: int, coder_id: int = 0) -> bytes:
    """Returns the file of one image: at most 12 bytes on top of the payload for sides up to 16,383.

    Args:
        payload: from `LatentCodec.encode`.
        fingerprint: the model's, 32 bytes.
        height: of the image in pixels, as it came in.
        width: likewise.
        coder_id: `LatentCodec.coder_id`.

    Raises:
        ValueError: an argument is out of range.
    """
    head = _start(0, fingerprint, coder_id) + side_bytes(height) + side_bytes(width)
    return _seal(head + bytes(payload), fingerprint)


def unpack_file(data: bytes, fingerprint: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Header, bytes]:
    """Returns the header and the payload of a file, both verified.

    Args:
        data: the whole file.
        fingerprint: of the model that is to read it, 32 bytes.
        max_pixels: largest height * width that is accepted.

    Raises:
        BitstreamError: the data is not a file of this model, newer, truncated, altered, or too large.
    """
    header, reader = _open(data, fingerprint, "file", max_pixels)
    _verify(data, fingerprint, "truncated or altered")
    return header, data[reader.at : reader.end]


def pack_stream(
    payloads: Sequence[bytes], fingerprint: bytes, sizes: Sequence[tuple[int, int]], coder_id: int = 0
) -> bytes:
    """Returns one stream of many images.

    On top of the payloads it costs at most 24 bytes in all and, where the images have one size, a byte for each whose
    payload is fewer than 128 bytes longer than the shortest, and two up to 16,383 bytes longer.

    Args:
        payloads: from `LatentCodec.encode_batch`.
        fingerprint: the model's, 32 bytes.
        sizes: (height, width) of each image in pixels, as it came in.
        coder_id: `LatentCodec.coder_id`.

    Raises:
        ValueError: an argument is out of range, or there is no image.
    """
    if not payloads or len(payloads) != len(sizes):
        raise ValueError(f"A stream needs images and a size for each; got {len(payloads)} and {len(sizes)} sizes.")
    uniform = all(tuple(size) == tuple(sizes[0]) for size in sizes)
    shortest = min(map(len, payloads))
    parts = [_start(_STREAM | (0 if uniform else _SIZES_DIFFER), fingerprint, coder_id), varint_bytes(len(payloads))]
    if uniform:
        parts += map(side_bytes, sizes[0])
    parts.append(varint_bytes(shortest))
    for payload, (height, width) in zip(payloads, sizes, strict=True):
        if not uniform:
            parts += (side_bytes(height), side_bytes(width))
        parts.append(varint_bytes(len(payload) - shortest))
    return _seal(b"".join([*parts, *payloads]), fingerprint)


def unpack_stream(
    data: bytes, fingerprint: bytes, *, max_pixels: int = MAX_PIXELS
) -> tuple[Header, list[bytes], list[tuple[int, int]]]:
    """Returns the header, the payloads and the sizes (height, width) of a stream, all verified.

    Args:
        data: the whole stream.
        fingerprint: of the model that is to read it, 32 bytes.
        max_pixels: largest height * width of one image that is accepted; the images are not decoded here, so their
            number is bounded by the length of the data.

    Raises:
        BitstreamError: the data is not a stream of this model, newer, truncated, altered, or too large.
    """
    header, reader = _open(data, fingerprint, "stream", max_pixels)
    shortest = reader.varint()
    # An image takes at least one byte, so a wild count ends here and not in a wild allocation.
    if header.count * (1 + shortest) > reader.left:
        raise BitstreamError(f"The stream is truncated: too short for the {header.count} images that it announces.")
    sizes, lengths = [], []
    for _ in range(header.count):
        height, width = header.height, header.width
        if height is None or width is None:
            height, width = reader.side(), reader.side()
            _check_pixels(height, width, max_pixels)
        sizes.append((height, width))
        lengths.append(shortest + reader.varint())
    return header, _take_payloads(data, fingerprint, reader, lengths), sizes


def images_a_group(height: int, width: int) -> int:
    """Returns how many images of this size one payload of a joined stream may hold: at least 1."""
    return max(1, min(_GROUP_IMAGES, _GROUP_PIXELS // (height * width)))


def pack_joined(
    groups: Sequence[tuple[int, bytes]], fingerprint: bytes, size: tuple[int, int], coder_id: int = 0
) -> bytes:
    """Returns one stream of many images of one size, several of which share a payload.

    An image costs no byte of its own: neither a record nor the end of a message. None can be taken out of it without
    decoding its group.

    Args:
        groups: the number of images and the payload of each, from `LatentCodec.encode_joined`.
        fingerprint: the model's, 32 bytes.
        size: (height, width) of every image in pixels, as it came in.
        coder_id: `LatentCodec.coder_id`.

    Raises:
        ValueError: an argument is out of range, or there is no image.
    """
    if not groups:
        raise ValueError("A stream needs images; got none.")
    sides, most = b"".join(map(side_bytes, size)), images_a_group(*size)
    parts = [_start(_STREAM | _JOINED, fingerprint, coder_id), varint_bytes(sum(n for n, _ in groups)), sides]
    for images, payload in groups:
        if not 1 <= images <= most:
            raise ValueError(f"A group holds 1 to {most} images of {size[0]} x {size[1]} pixels, not {images}.")
        parts += (varint_bytes(images), varint_bytes(len(payload)))
    return _seal(b"".join([*parts, *(payload for _, payload in groups)]), fingerprint)


def unpack_joined(
    data: bytes, fingerprint: bytes, *, max_pixels: int = MAX_PIXELS
) -> tuple[Header, list[tuple[int, bytes]]]:
    """Returns the header of a joined stream and its groups, each a number of images and their payload, all verified.

    Args:
        data: the whole stream.
        fingerprint: of the model that is to read it, 32 bytes.
        max_pixels: largest height * width of one image that is accepted.

    Raises:
        BitstreamError: the data is not a joined stream of this model, newer, truncated, altered, or too large.
    """
    header, reader = _open(data, fingerprint, "joined stream", max_pixels)
    assert header.height is not None and header.width is not None  # _read_header refuses others
    most, missing = images_a_group(header.height, header.width), header.count
    numbers, lengths = [], []
    while missing:  # a group takes bytes, so a wild count ends at the end of the data
        images = reader.varint()
        if not 1 <= images <= min(most, missing):
            raise BitstreamError(f"The stream is altered: a group of {images} images, where 1 to {most} can be.")
        numbers.append(images)
        lengths.append(reader.varint())
        missing -= images
    return header, list(zip(numbers, _take_payloads(data, fingerprint, reader, lengths), strict=True))


def peek(data: bytes) -> Header:
    """Returns the header of a file or stream without a model; nothing is verified beyond the header's own form.

    Args:
        data: the file or stream, or at least its first 24 bytes.

    Raises:
        BitstreamError: the data is not vae_jcc's, newer, or truncated within the header.
    """
    return _read_header(FieldReader(data, len(data)))


def _take_payloads(data: bytes, fingerprint: bytes, reader: FieldReader, lengths: list[int]) -> list[bytes]:
    """Returns the payloads of a stream, of which nothing but these is left, once the checksum says that they are whole.

    Raises:
        BitstreamError: they are not.
    """
    if sum(lengths) != reader.left:
        problem = "truncated" if sum(lengths) > reader.left else "altered"
        raise BitstreamError(f"The stream is {problem}: {reader.left} payload bytes, {sum(lengths)} announced.")
    _verify(data, fingerprint, "altered")
    payloads = []
    for length in lengths:
        payloads.append(data[reader.at : reader.at + length])
        reader.at += length
    return payloads


def _open(data: bytes, fingerprint: bytes, kind: str, max_pixels: int) -> tuple[Header, FieldReader]:
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
        _check_pixels(header.height, header.width, max_pixels)
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
    stream, differ, joined = bool(flags & _STREAM), bool(flags & _SIZES_DIFFER), bool(flags & _JOINED)
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


def _start(flags: int, fingerprint: bytes, coder_id: int) -> bytes:
    _check_fingerprint(fingerprint)
    if not 0 <= coder_id <= _CODER_MASK:
        raise ValueError(f"Coder ids are 0..{_CODER_MASK}, not {coder_id}.")
    return bytes([_MAGIC, VERSION << _VERSION_SHIFT | flags | coder_id]) + fingerprint[:_SHORT_BYTES]


def _seal(data: bytes, fingerprint: bytes) -> bytes:
    return data + zlib.crc32(data, zlib.crc32(fingerprint)).to_bytes(_CRC_BYTES, "little")


def _verify(data: bytes, fingerprint: bytes, cause: str) -> None:
    body = memoryview(data)[:-_CRC_BYTES]
    if zlib.crc32(body, zlib.crc32(fingerprint)) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise BitstreamError(
            f"The data is {cause}, or made by another model whose fingerprint begins like this one's, "
            f"{fingerprint.hex()}: its checksum differs."
        )


def _check_fingerprint(fingerprint: bytes) -> None:
    if len(fingerprint) != _FINGERPRINT_BYTES:
        raise ValueError(f"A model's fingerprint has {_FINGERPRINT_BYTES} bytes, not {len(fingerprint)}.")


def _check_pixels(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise BitstreamError(
            f"The image is over max_pixels: {height} x {width} is more than {max_pixels} pixels; raise the limit to "
            "read it if you trust its source."
        )
