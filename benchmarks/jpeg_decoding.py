"""Which library decodes random-resized crops of JPEGs fastest: images/s on one thread, against this project's way.

    pip install opencv-python-headless simplejpeg
    TFDS_DATA_DIR=... taskset -c 0 python benchmarks/jpeg_decoding.py --json jpeg_decoding.json
    TFDS_DATA_DIR=... taskset -c 0 python benchmarks/jpeg_decoding.py --enlarge 2.35 --json jpeg_decoding_375.json

The pictures are the encoded JPEGs of a TFDS data set, as they are stored; the crops are those that training draws, and
each method ends with a uint8 square of --side. --enlarge scales the pictures and encodes them again at quality 90, for
a look at sizes that the data set at hand does not have: 2.35 makes 160 pixels 376, about ImageNet's. Methods take
turns for --rounds rounds, so that a machine which slows down for a while hits all; the ratio is taken round by round.
A library that is not installed is left out and named.
"""

import argparse
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from vae_jcc.benchmark.measuring import spread, write_measurements
from vae_jcc.data.crop import Crop, RandomResizedCrop
from vae_jcc.data.images import decode_image
from vae_jcc.data.order import Shard
from vae_jcc.data.tfds_source import open_tfds

Method = Callable[[bytes, Crop], np.ndarray]


def pillow_full(data: bytes, crop: Crop) -> np.ndarray:
    """Decodes everything, then cuts and scales."""
    with Image.open(io.BytesIO(data)) as image:
        box = crop.box(image.height, image.width)
        return scale(image if image.mode == "RGB" else image.convert("RGB"), box, crop.side)


def scale(image: Image.Image, box: tuple[float, float, float, float], side: int) -> np.ndarray:
    """Antialiased bilinear, as the pipeline scales."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def this_project(data: bytes, crop: Crop) -> np.ndarray:
    """What the pipeline does: Pillow in draft mode (images.py)."""
    return decode_image(data, 3, "a picture", crop=crop)


def opencv_methods() -> dict[str, Method]:
    """OpenCV with all pixels, and with IMREAD_REDUCED_* where the crop allows; the latter with Pillow's resize too.

    The last one makes what this project makes, antialiased bilinear, and so tells decoding from scaling.
    """
    import cv2

    cv2.setNumThreads(1)
    reduced = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}

    def cut(image: np.ndarray, box: tuple[int, int, int, int], factor: int, side: int) -> np.ndarray:
        left, top, right, bottom = (round(edge / factor) for edge in box)
        # Area averaging is the only antialiased filter that OpenCV has.
        shrinks = min(right - left, bottom - top) > side
        part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        scaled = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB)

    def full(data: bytes, crop: Crop) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return cut(image, crop.box(*image.shape[:2]), 1, crop.side)

    def decode(data: bytes, crop: Crop) -> tuple[np.ndarray, tuple[int, int, int, int], int]:
        with Image.open(io.BytesIO(data)) as header:  # OpenCV does not tell a size without decoding
            box = crop.box(header.height, header.width)
        smaller = min(box[2] - box[0], box[3] - box[1]) // crop.side
        factor = 4 if smaller >= 4 else 2 if smaller >= 2 else 1
        return cv2.imdecode(np.frombuffer(data, np.uint8), reduced[factor]), box, factor

    def partial(data: bytes, crop: Crop) -> np.ndarray:
        return cut(*decode(data, crop), crop.side)

    def partial_pillow(data: bytes, crop: Crop) -> np.ndarray:
        image, box, factor = decode(data, crop)
        left, top, right, bottom = (edge / factor for edge in box)
        return scale(Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), (left, top, right, bottom), crop.side)

    return {"OpenCV, full": full, "OpenCV, reduced": partial, "OpenCV, Pillow's resize": partial_pillow}


def simplejpeg_methods() -> dict[str, Method]:
    """libjpeg-turbo's scaled decoding in eighths, then Pillow's resize."""
    import simplejpeg

    def partial(data: bytes, crop: Crop) -> np.ndarray:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        left, top, right, bottom = crop.box(height, width)
        need = max(crop.side / (right - left), crop.side / (bottom - top))
        size = {"min_height": int(height * need), "min_width": int(width * need)} if need < 1 else {}
        array = simplejpeg.decode_jpeg(data, "RGB", **size)
        y, x = array.shape[0] / height, array.shape[1] / width
        box = (left * x, top * y, right * x, bottom * y)
        return scale(Image.fromarray(array), box, crop.side)

    return {"simplejpeg, scaled": partial}


def pyturbojpeg_methods() -> dict[str, Method]:
    """Lossless cutting of whole JPEG blocks, then decoding; pip does not bring the libturbojpeg that it needs."""
    from turbojpeg import TJPF_RGB, TurboJPEG

    jpeg = TurboJPEG()

    def partial(data: bytes, crop: Crop) -> np.ndarray:
        width, height, _, _ = jpeg.decode_header(data)
        left, top, right, bottom = crop.box(height, width)
        x, y = left // 16 * 16, top // 16 * 16
        part = jpeg.decode(jpeg.crop(data, x, y, right - x, bottom - y), pixel_format=TJPF_RGB)
        box = (left - x, top - y, min(right - x, part.shape[1]), min(bottom - y, part.shape[0]))
        return scale(Image.fromarray(part), box, crop.side)

    return {"PyTurboJPEG, cut": partial}


def all_methods() -> dict[str, Method]:
    """Returns what is installed, this project's way first."""
    methods: dict[str, Method] = {"Pillow, draft (used)": this_project, "Pillow, full": pillow_full}
    for make in (opencv_methods, simplejpeg_methods, pyturbojpeg_methods):
        try:
            methods |= make()
        except Exception as error:  # PyTurboJPEG raises RuntimeError where the library is missing
            print(f"left out: {make.__name__.removesuffix('_methods')} ({error})")
    return methods


def read_pictures(arguments: argparse.Namespace) -> list[bytes]:
    """Returns the encoded pictures, enlarged where that is asked for."""
    source = open_tfds(arguments.dataset, arguments.split)
    pictures = [source.records[i][source.image_key] for i in range(min(arguments.pictures, len(source)))]
    return [enlarge(data, arguments.enlarge) for data in pictures] if arguments.enlarge != 1 else pictures


def enlarge(data: bytes, factor: float) -> bytes:
    """Scales a picture and encodes it again."""
    with Image.open(io.BytesIO(data)) as image:
        size = (round(image.width * factor), round(image.height * factor))
        buffer = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()


def measure(methods: dict[str, Method], pictures: list[bytes], arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns images/s and the ratio to the first method, each with its spread over the rounds."""
    crops = RandomResizedCrop(arguments.side).draw(0, 0, Shard(len(pictures)))
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(arguments.rounds):
        for name, method in methods.items():
            begin = time.perf_counter()
            for data, crop in zip(pictures, crops, strict=True):
                method(data, crop)
            rates[name].append(len(pictures) / (time.perf_counter() - begin))
    base = next(iter(rates.values()))
    return {
        name: {"images_per_s": spread(r), "ratio": spread([a / b for a, b in zip(r, base, strict=True)])}
        for name, r in rates.items()
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Compare JPEG decoders on random-resized crops.")
    parser.add_argument("--dataset", default="imagenette/160px-v2", help="a TFDS data set of JPEGs")
    parser.add_argument("--split", default="train")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--side", type=int, default=128, help="of the square that a crop becomes, in pixels")
    parser.add_argument("--enlarge", type=float, default=1.0, help="scale the pictures first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="", help="write the result to this file")
    arguments = parser.parse_args()
    methods = all_methods()
    result = measure(methods, read_pictures(arguments), arguments)
    for name, row in result.items():
        rate, ratio = row["images_per_s"]["median"], row["ratio"]
        print(f"{name:24} {rate:8.0f} images/s  {ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f})")
    settings = {k: v for k, v in vars(arguments).items() if k != "json"}
    write_measurements(arguments.json, {"settings": settings, "methods": result}, "pillow", "numpy")


if __name__ == "__main__":
    main()
