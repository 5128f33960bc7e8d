"""Symbols through bytes and back, and what those bytes cost: the rates of every published figure."""

import numpy as np

from vae_jcc.coding import ContextCodec, LatentCodec, images_a_group, pack_file, pack_joined, pack_stream
from vae_jcc.losses import bits_per_pixel


def through_bytes(
    codec: LatentCodec | ContextCodec, symbols: np.ndarray, keep: np.ndarray
) -> tuple[list[bytes], np.ndarray]:
    """Returns the payloads of the images to keep, and the symbols [B, h, w, c] of all once those are decoded.

    Padding keeps the batch's shape, so that nothing is compiled twice.

    Raises:
        RuntimeError: bytes did not decode to the symbols that were coded.
    """
    coded, decoded = codec.encode_batch(symbols[keep]), symbols.copy()
    decoded[keep] = codec.decode_batch(coded, symbols.shape[1:3])
    _check_same(decoded, symbols)
    return coded, decoded


def join(
    codec: LatentCodec | ContextCodec, symbols: np.ndarray, size: tuple[int, int], check: bool
) -> list[tuple[int, bytes]]:
    """Returns the groups of a joined stream of symbols [B, h, w, c], of images of `size`.

    With `check` the first one is decoded. (Not all: a serial context model takes as long for a group as for a batch,
    and of large images a group holds few.)

    Raises:
        RuntimeError: bytes did not decode to the symbols that were coded.
    """
    most = images_a_group(*size)
    parts = [symbols[start : start + most] for start in range(0, len(symbols), most)]
    groups = [(len(part), codec.encode_joined(part)) for part in parts]
    if check and groups:
        _check_same(codec.decode_joined(groups[0][1], len(parts[0]), symbols.shape[1:3]), parts[0])
    return groups


def _check_same(decoded: np.ndarray, coded: np.ndarray) -> None:
    if not np.array_equal(decoded, coded):
        raise RuntimeError("Decoded symbols differ from those coded: the coder or its tables are at fault.")


def rates(
    fingerprint: bytes,
    payloads: list[bytes],
    groups: list[tuple[int, bytes]],
    sizes: list[tuple[int, int]],
    estimated: float,
) -> dict[str, float]:
    """Returns what images cost by estimated bits, payload, streams and files of their own; all have one size."""
    pixels, payload = sum(h * w for h, w in sizes), sum(map(len, payloads))
    stream = len(pack_stream(payloads, fingerprint, sizes))
    joined = len(pack_joined(groups, fingerprint, sizes[0]))
    singles = sum(len(pack_file(p, fingerprint, h, w)) for p, (h, w) in zip(payloads, sizes, strict=True))
    return {
        "bpp_estimated": bits_per_pixel(estimated, pixels, 1),
        "bpp_payload": bits_per_pixel(8.0 * payload, pixels, 1),
        "bpp_file": bits_per_pixel(8.0 * stream, pixels, 1),
        "bpp_joined": bits_per_pixel(8.0 * joined, pixels, 1),
        "bpp_single_file": bits_per_pixel(8.0 * singles, pixels, 1),
        "bytes_payload": payload,
        "bytes_stream": stream,
        "bytes_joined": joined,
        "payload_overhead": 8.0 * payload / estimated,
    }
