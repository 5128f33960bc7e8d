"""What a payload travels in: the file of one image and the streams of many, all in docs/bitstream.md.

    file    magic  flags  fingerprint[2]  height  width                                payload            crc32
    stream  magic  flags  fingerprint[2]  count  [height  width]  shortest  count x record  payloads      crc32
    joined  magic  flags  fingerprint[2]  count  height  width    a record for each group   payloads      crc32

All three have the frame of frame.py: magic to size, and the checksum.
"""

from collections.abc import Sequence

from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.fields import FieldReader, side_bytes, varint_bytes
from vae_jcc.coding.frame import (
    JOINED,
    MAX_PIXELS,
    SIZES_DIFFER,
    STREAM,
    Header,
    check_pixels,
    open_container,
    seal,
    start,
    verify,
)

# Of a group in a joined stream: what has to be in memory at once, at either end. The end of its message and its record
# cost some 4 bytes, shared out over 128 images of 32 x 32.
_GROUP_PIXELS, _GROUP_IMAGES = 2**17, 2**10


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
    head = start(0, fingerprint, coder_id) + side_bytes(height) + side_bytes(width)
    return seal(head + bytes(payload), fingerprint)


def unpack_file(data: bytes, fingerprint: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Header, bytes]:
    """Returns the header and the payload of a file, both verified.

    Args:
        data: the whole file.
        fingerprint: of the model that is to read it, 32 bytes.
        max_pixels: largest height * width that is accepted.

    Raises:
        BitstreamError: the data is not a file of this model, newer, truncated, altered, or too large.
    """
    header, reader = open_container(data, fingerprint, "file", max_pixels)
    verify(data, fingerprint, "truncated or altered")
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
    parts = [start(STREAM | (0 if uniform else SIZES_DIFFER), fingerprint, coder_id), varint_bytes(len(payloads))]
    if uniform:
        parts += map(side_bytes, sizes[0])
    parts.append(varint_bytes(shortest))
    for payload, (height, width) in zip(payloads, sizes, strict=True):
        if not uniform:
            parts += (side_bytes(height), side_bytes(width))
        parts.append(varint_bytes(len(payload) - shortest))
    return seal(b"".join([*parts, *payloads]), fingerprint)


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
    header, reader = open_container(data, fingerprint, "stream", max_pixels)
    shortest = reader.varint()
    # An image takes at least one byte, so a wild count ends here and not in a wild allocation.
    if header.count * (1 + shortest) > reader.left:
        raise BitstreamError(f"The stream is truncated: too short for the {header.count} images that it announces.")
    sizes, lengths = [], []
    for _ in range(header.count):
        height, width = header.height, header.width
        if height is None or width is None:
            height, width = reader.side(), reader.side()
            check_pixels(height, width, max_pixels)
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
    parts = [start(STREAM | JOINED, fingerprint, coder_id), varint_bytes(sum(n for n, _ in groups)), sides]
    for images, payload in groups:
        if not 1 <= images <= most:
            raise ValueError(f"A group holds 1 to {most} images of {size[0]} x {size[1]} pixels, not {images}.")
        parts += (varint_bytes(images), varint_bytes(len(payload)))
    return seal(b"".join([*parts, *(payload for _, payload in groups)]), fingerprint)


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
    header, reader = open_container(data, fingerprint, "joined stream", max_pixels)
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


def _take_payloads(data: bytes, fingerprint: bytes, reader: FieldReader, lengths: list[int]) -> list[bytes]:
    """Returns the payloads of a stream, of which nothing but these is left, once the checksum says that they are whole.

    Raises:
        BitstreamError: they are not.
    """
    if sum(lengths) != reader.left:
        problem = "truncated" if sum(lengths) > reader.left else "altered"
        raise BitstreamError(f"The stream is {problem}: {reader.left} payload bytes, {sum(lengths)} announced.")
    verify(data, fingerprint, "altered")
    payloads = []
    for length in lengths:
        payloads.append(data[reader.at : reader.at + length])
        reader.at += length
    return payloads
