"""The coders that go in step over many messages write and read what the library's coder does, to the byte."""

import numpy as np
import pytest

from vae_jcc.coding.batch_decoder import BatchDecoder
from vae_jcc.coding.batch_encoder import BatchEncoder
from vae_jcc.coding.coder import make_coder

TOTAL = 2**24
ROWS = {
    "even": [TOTAL // 4] * 4,
    "nearly sure": [1, TOTAL - 3, 1, 1],
    "many": [*range(1, 300), TOTAL - sum(range(1, 300))],
    "powers": [2**k for k in range(24)] + [1],
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("length", [0, 1, 7, 400])  # 400 even or rare slots grow the buffer
def test_messages_are_the_librarys(name, length, rng):
    row = np.array(ROWS[name])
    likely = rng.choice(len(row), (length, 50), p=row / TOTAL)
    slots = np.where(rng.random((length, 50)) < 0.3, rng.integers(0, len(row), (length, 50)), likely).astype(np.int32)
    encoder, library = BatchEncoder(50), make_coder("range", [row])
    encoder.encode_row(slots, row)
    messages = encoder.finish()
    assert messages == [library.encode(np.ascontiguousarray(s)[None], None) for s in slots.T]
    assert np.array_equal(BatchDecoder(messages).decode_row(row, length).reshape(slots.shape), slots)


def test_a_carry_ripples_through_settled_words():
    """So rare that it is set up by hand: 2**62 added to a `low` just below 2**64, behind two words of ones."""
    encoder = BatchEncoder(1)
    encoder._words[0, 1:4], encoder._last[:] = [5, 2**32 - 1, 2**32 - 1], 3
    encoder._low[:], encoder._range[:] = 2**64 - 2**40, 2**63
    encoder.encode_row(np.array([[1]]), np.array([2**23, 2**23]))
    assert encoder.finish() == [bytes.fromhex("00000006 00000000 00000000 40")]
