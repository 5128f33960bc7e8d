"""The fields that headers are made of: single bytes and LEB128 integers (docs/bitstream.md)."""

from dataclasses import dataclass

from vae_jcc.coding.errors import BitstreamError

_MAX_INTEGER = 2**32 - 1


@dataclass
class FieldReader:
    """A place in the data, before its end; every read raises BitstreamError where the data ends or is altered."""

    data: bytes
    end: int
    at: int = 0

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return self.end - self.at

    def byte(self) -> int:
        """Reads one byte."""
        if self.at >= self.end:
            raise BitstreamError(f"The data is truncated: it ends within the header, after {len(self.data)} bytes.")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        """Reads an unsigned LEB128 integer below 2**32, in its shortest form only."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise BitstreamError("The header is altered: it holds an integer beyond 32 bits.")
        if value > _MAX_INTEGER or (shift and not byte):
            raise BitstreamError("The header is altered: it holds an integer that no encoder writes.")
        return value

    def side(self) -> int:
        """Reads the side of an image in pixels, at least 1."""
        side = self.varint()
        if not side:
            raise BitstreamError("The header is altered: it names an image without pixels.")
        return side


def side_bytes(value: int) -> bytes:
    """Returns the form of an image's side in pixels, 1..2**32-1; ValueError for others."""
    if not 1 <= value <= _MAX_INTEGER:
        raise ValueError(f"An image's side is 1..{_MAX_INTEGER} pixels, not {value}.")
    return varint_bytes(value)


def varint_bytes(value: int) -> bytes:
    """Returns the unsigned LEB128 form of an integer of 0..2**32-1; ValueError for others."""
    value = int(value)
    if not 0 <= value <= _MAX_INTEGER:
        raise ValueError(f"{value} does not fit into the format's 32-bit integers.")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
