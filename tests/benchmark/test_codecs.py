"""Classical codecs: pixels come back, rates rise with quality, constant costs go, missing plugins are told."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from vae_jcc.benchmark import codecs
from vae_jcc.benchmark.coded_source import CodedSource, Sample
from vae_jcc.data.sources import open_source

PLUGINS = {"heic": "pillow_heif", "jxl": "pillow_jxl"}


@pytest.fixture(params=list(codecs.CODECS))
def codec(request):
    """Each codec that can be used here."""
    if request.param in PLUGINS:
        pytest.importorskip(PLUGINS[request.param])
    try:
        return codecs.get_codecs([request.param])[0]
    except ValueError as error:
        pytest.skip(str(error))


def photo(side=32):
    """A smooth colour picture with an edge, uint8 [side, side, 3]."""
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([0.8 * x, 0.5 + 0.4 * np.sin(5 * y), 0.3 + 0.4 * (x + y > 1)], axis=-1)
    return np.round(255 * picture).astype(np.uint8)


@pytest.mark.parametrize("channels", [3, 1])
def test_pixels_come_back_better_and_dearer_with_quality(codec, channels):
    image = photo()[..., :channels]
    files, payloads, errors = [], [], []
    for quality in codec.qualities:
        coded = codec.compress(image, quality)
        pixels = codec.decode(coded.data, channels)
        assert pixels.shape == image.shape and pixels.dtype == np.uint8
        files.append(len(coded.data))
        payloads.append(coded.payload_bytes)
        errors.append(np.mean(np.square(pixels.astype(float) - image)))
    assert all(0 <= payload < file for payload, file in zip(payloads, files, strict=True))
    assert payloads[0] < payloads[3] < payloads[-1] and files[0] < files[3] < files[-1]
    assert errors[0] > errors[-1] and errors[-1] < 65  # 30 dB: half the chroma of a coloured edge is lost


def test_a_flat_image_has_no_payload_and_its_file_is_the_constant_cost(codec):
    flat = np.full((24, 40, 3), 128, np.uint8)
    quality = codec.qualities[2]
    coded = codec.compress(flat, quality)
    assert coded.payload_bytes == 0
    assert len(coded.data) == codecs.constant_bytes(codec.name, quality, flat.shape)[0]


def test_ways_to_write_hold_the_same_pixels():
    jpeg, image = codecs.CODECS["jpeg"], photo()
    own_tables, standard_tables = (jpeg.encode(image, 20, writer) for writer in (0, 1))
    assert len(own_tables) < len(standard_tables)
    np.testing.assert_array_equal(jpeg.decode(own_tables, 3), jpeg.decode(standard_tables, 3))
    constants = codecs.constant_bytes("jpeg", 20, image.shape)
    payloads = [len(own_tables) - constants[0], len(standard_tables) - constants[1]]
    assert jpeg.compress(image, 20).payload_bytes == min(payloads)


def test_metadata_of_a_source_file_costs_nothing(tmp_path):
    """A folder of JPEG files with a comment and EXIF, and the same files without, give the same bytes."""
    rates = []
    exif = Image.Exif()
    exif[0x010E] = "a long description " * 20
    for name, extras in (("bare", {}), ("rich", {"comment": b"a comment " * 30, "exif": exif})):
        for kind in ("ant", "bee"):
            (tmp_path / name / kind).mkdir(parents=True)
            Image.fromarray(photo()).save(tmp_path / name / kind / "a.jpg", quality=90, **extras)
        source = open_source(f"folder:{tmp_path / name}", "all")
        coded = CodedSource(source, codecs.CODECS["jpeg"], 50)
        assert all(b"comment" not in coded[i]["image"].tobytes() for i in range(len(coded)))
        rates.append(coded.rates())
    assert rates[0] == rates[1]
    assert (tmp_path / "rich/ant/a.jpg").stat().st_size > (tmp_path / "bare/ant/a.jpg").stat().st_size + 500


def test_rates_are_of_the_images_that_were_read():
    source = open_source("bundled:fashion_mnist", "test[:6]")
    jpeg = codecs.CODECS["jpeg"]
    coded = CodedSource(source, jpeg, 30)
    with pytest.raises(ValueError, match="No image"):
        coded.rates()
    sizes = [jpeg.compress(source[i]["image"], 30) for i in range(3)]
    for i in (0, 1, 2, 2):  # read again, counted once
        picture = Image.open(io.BytesIO(sizes[i].data)).convert("L")
        np.testing.assert_array_equal(coded[i]["image"][..., 0], np.asarray(picture))
    assert coded.rates() == {
        "bpp_payload": pytest.approx(8 * sum(s.payload_bytes for s in sizes) / (3 * 28 * 28)),
        "bpp_file": pytest.approx(8 * sum(len(s.data) for s in sizes) / (3 * 28 * 28)),
    }


def test_a_sample_is_spread_over_its_source():
    source = open_source("bundled:fashion_mnist", "test[:100]")
    sample = Sample(source, 10)
    assert len(sample) == sample.info.num_examples == 10
    assert [sample[i]["label"] for i in range(10)] == [source[10 * i]["label"] for i in range(10)]
    assert len(Sample(source, 0)) == len(Sample(source, 1000)) == 100


@pytest.mark.parametrize("name", list(PLUGINS))
def test_a_missing_plugin_is_named_with_its_cure(name, monkeypatch):
    monkeypatch.setitem(sys.modules, PLUGINS[name], None)  # importing it now fails
    with pytest.raises(ValueError, match=r"pip install 'vae-jcc\[codecs\]', or leave it out: --codecs jpeg ") as caught:
        codecs.get_codecs(["jpeg", name])
    assert "\n" not in str(caught.value)
    assert [codec.name for codec in codecs.get_codecs(["jpeg", "webp"])] == ["jpeg", "webp"]


def test_an_unknown_codec_is_told_the_known_ones():
    with pytest.raises(ValueError, match="'bpg'.*jpeg, j2k, webp, heic, avif, jxl"):
        codecs.get_codecs(["bpg"])
