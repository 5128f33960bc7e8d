"""Split strings mean what they mean to TensorFlow Datasets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_jcc.data.errors import DataError
from vae_jcc.data.splits import SplitRange, count_common, resolve_split

COUNTS = {"train": 1003, "test": 17}


def tfds_ranges(spec: str, counts: dict[str, int]) -> list[tuple[str, int, int]]:
    """What TFDS itself reads for a split string, parts without an example left out."""
    from tensorflow_datasets.core import splits as tfds_splits

    infos = {
        name: tfds_splits.SplitInfo(name=name, shard_lengths=[count], num_bytes=0) for name, count in counts.items()
    }
    parts = tfds_splits.AbstractSplit.from_spec(spec).to_absolute(infos)
    ranges = [(p.splitname, p.from_ or 0, counts[p.splitname] if p.to is None else p.to) for p in parts]
    return [r for r in ranges if r[2] > r[1]]


def our_ranges(spec: str, counts: dict[str, int]) -> list[tuple[str, int, int]]:
    return [(r.name, r.start, r.stop) for r in resolve_split(spec, counts)]


def test_ranges_by_hand() -> None:
    assert resolve_split("train[95%:]", COUNTS) == [SplitRange("train", 953, 1003)]
    assert resolve_split("train[:10]+test[-7:]", COUNTS) == [SplitRange("train", 0, 10), SplitRange("test", 10, 17)]


@pytest.mark.parametrize(
    "spec",
    [
        "train",
        "all",
        "train[:95%]",
        "train[95%:]",
        "train[100:200]",
        "train[-100:]",
        "train[:-3]",
        "train[-10%:]",
        "train[12.5%:33.3%]",
        "train[5:50%]",
        "train[1_000:]",
        "train[:10%]+train[90%:]",
        "test + train[:5]",
        "test[:50%]",  # 8.5 of 17: the tie goes to the even neighbour
        "train[:0]+test",
    ],
)
def test_same_as_tfds(spec: str) -> None:
    try:
        expected = tfds_ranges(spec, COUNTS)
    except ValueError:
        pytest.fail(f"TFDS refuses {spec}: the test is wrong")
    assert our_ranges(spec, COUNTS) == expected


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 60_000),
    low=st.none() | st.integers(-100, 100),
    high=st.none() | st.integers(-100, 100),
)
def test_percentages_round_as_in_tfds(count: int, low: int | None, high: int | None) -> None:
    if low is None and high is None:
        return
    spec = f"s[{'' if low is None else f'{low}%'}:{'' if high is None else f'{high}%'}]"
    expected = tfds_ranges(spec, {"s": count})
    if expected:
        assert our_ranges(spec, {"s": count}) == expected
    else:
        with pytest.raises(DataError, match="selects no example"):
            resolve_split(spec, {"s": count})


@settings(derandomize=True)
@given(count=st.integers(10, 60_000), cut=st.integers(10, 90))
def test_two_sides_of_a_cut_share_nothing_and_lose_nothing(count: int, cut: int) -> None:
    (before,) = resolve_split(f"s[:{cut}%]", {"s": count})
    (after,) = resolve_split(f"s[{cut}%:]", {"s": count})
    assert (before.start, before.stop, after.stop) == (0, after.start, count)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("trian", r'no split "trian"; there are train \(1003\), test \(17\)'),
        ("train[:2000]", "1003 examples"),
        ("train[:101%]", "1003 examples"),
        ("train[5:5]", "selects no example"),
        ("train[5]", "does not parse"),
        ("train[:]", "does not parse"),
        ("train[1:2:3]", "does not parse"),
        ("train[a:]", "does not parse"),
        ("train[ 1:2]", "does not parse"),
        ("train[:5", "does not parse"),
        ("train[:1.5]", "fraction"),
        ("train++test", "does not parse"),
        ("", "does not parse"),
    ],
)
def test_refuses(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        resolve_split(spec, COUNTS)


_RANGES = st.lists(
    st.builds(
        lambda name, start, length: SplitRange(name, start, start + length),
        st.sampled_from(("train", "test")),
        st.integers(0, 30),
        st.integers(1, 12),
    ),
    max_size=5,
)


@given(_RANGES, _RANGES)
def test_common_examples_are_those_of_both(ranges: list[SplitRange], others: list[SplitRange]) -> None:
    there = {(r.name, i) for r in others for i in range(r.start, r.stop)}
    assert count_common(ranges, others) == sum((r.name, i) in there for r in ranges for i in range(r.start, r.stop))
