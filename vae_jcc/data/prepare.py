"""Makes a TFDS data set ready as ArrayRecord: python -m vae_jcc.data.prepare NAME [--data_dir DIR] [--archives DIR].

    check what is there ─► state and check the disk ─► verify archives given by hand ─► TFDS prepares ─► count records

Run it again after an interruption: downloads that arrived are kept, the unfinished folder is removed and written anew,
and a finished data set is recognised and only counted. TFDS verifies the checksums of what it downloads; archives that
were fetched by hand are verified here, where TFDS knows their checksums. Preparing needs TensorFlow, reading does not.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vae_jcc.data.errors import DataError
from vae_jcc.data.tfds_source import find_builder, is_prepared, tfds_folder

_GIB = 2**30


def prepare(
    name: str, *, data_dir: str | None = None, archives: str | None = None, say: Callable[[str], None] = print
) -> dict[str, int]:
    """Prepares a data set, or recognises that it is ready.

    Args:
        name: as TFDS writes it: "imagenet2012", "imagenette/160px-v2".
        data_dir: TFDS's folder; by default TFDS_DATA_DIR, else ~/tensorflow_datasets.
        archives: folder with what had to be downloaded by hand.
        say: prints a line.

    Returns:
        The number of examples of each split, as counted in the files.

    Raises:
        DataError: something is missing, damaged or does not fit; the message says what to do.
    """
    folder = tfds_folder(data_dir)
    builder = find_builder(name, folder)
    if not is_prepared(builder, name, folder):
        _require_tensorflow(name)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(builder, name):
            _remove_unfinished(builder, say)
            files = _archives(builder, name, archives)
            _check_disk(builder, folder, files, say)
            _verify(files, say)
            _download_and_prepare(builder, name, archives)
        builder = find_builder(name, folder)
        if not is_prepared(builder, name, folder):
            raise DataError(f"{builder.data_path} is there, but does not say what it holds: {_start_over(builder)}")
    counts = count_records(builder)
    listing = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    say(f'"{name}" is ready in {builder.data_path}: {listing}.')
    return counts


def count_records(builder: Any) -> dict[str, int]:
    """Counts the examples in a prepared data set's files, split by split.

    Raises:
        DataError: a file is missing, cannot be read, or holds another number than the data set promises.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    counts: dict[str, int] = {}
    for split, info in builder.info.splits.items():
        for path, promised in zip(info.filepaths, info.shard_lengths, strict=True):
            try:
                reader = ArrayRecordReader(str(path))
                found = reader.num_records()
                reader.close()
            except Exception as error:
                raise DataError(f"{path} cannot be read ({_one_line(error)}): {_start_over(builder)}") from error
            if found != promised:
                raise DataError(f"{path} holds {found} of {promised} examples: {_start_over(builder)}")
            counts[split] = counts.get(split, 0) + found
    return counts


def _start_over(builder: Any) -> str:
    return f"remove the folder {builder.data_path} and prepare the data set again; downloads are kept."


def _require_tensorflow(name: str) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(f'Preparing "{name}" needs TensorFlow (reading it later does not): pip install tensorflow')


@contextmanager
def _alone(builder: Any, name: str) -> Iterator[None]:
    """Keeps two of these commands from preparing one data set at a time; the system frees the lock of a dead one.

    The lock is the data set's, however its name is spelt ("cifar10", "cifar10:3.0.2").
    """
    place, folder = Path(builder.data_path), Path(builder.data_dir_root)
    path = folder / f".prepare-{'-'.join(place.relative_to(folder).parts)}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f'Another process is preparing "{name}" in {folder}: wait for it.') from error
        yield


def _remove_unfinished(builder: Any, say: Callable[[str], None]) -> None:
    """Removes what a killed run left: TFDS writes into incomplete.XXXXXX_VERSION and renames it when all is there."""
    for path in Path(builder.data_path.parent).glob(f"incomplete.*_{builder.data_path.name}"):
        say(f"Removing {path}, left unfinished by an earlier run.")
        shutil.rmtree(path)


def _archives(builder: Any, name: str, given: str | None) -> dict[Path, Any]:
    """The archives fetched by hand of which TFDS knows size and checksum; raises DataError where one is missing."""
    instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    if not instructions:
        return {}
    if given is None or not Path(given).expanduser().is_dir():
        where = f"there is no folder {given}" if given else "give their folder with --archives DIR"
        raise DataError(f'The archives of "{name}" must be fetched by hand; {where}. TFDS says: {instructions}')
    known = {url.rsplit("/", 1)[-1]: info for url, info in (builder.url_infos or {}).items()}
    files = {Path(given).expanduser() / file: info for file, info in known.items() if file in instructions}
    missing = [path.name for path in files if not path.is_file()]
    if missing:  # TFDS itself would leave the split out
        raise DataError(f"{given} lacks {' and '.join(missing)}. TFDS says: {instructions}")
    return files


def _check_disk(builder: Any, folder: Path, files: dict[Path, Any], say: Callable[[str], None]) -> None:
    """States what is needed; raises DataError where that is known and not there."""
    download, prepared = int(builder.info.download_size), int(builder.info.dataset_size)
    free = shutil.disk_usage(folder).free
    exact = True
    if files:
        download, archives = 0, sum(path.stat().st_size for path in files)
        prepared = prepared or archives  # pictures are stored as they come
    elif not download:
        download = sum(int(info.size) for info in (builder.url_infos or {}).values())
        exact = len(builder.BUILDER_CONFIGS) <= 1  # else the addresses are those of all configurations
    # Archives are unpacked beside the data set, at about their own size.
    needed = 2 * download + (prepared or download)
    if not needed:
        say(f"TFDS does not know the size of {builder.name}; {free / _GIB:.1f} GiB are free in {folder}.")
        return
    say(
        f"Needed: {'' if exact else 'at most '}{needed / _GIB:.1f} GiB (download {download / _GIB:.1f}, unpacked "
        f"{download / _GIB:.1f}, prepared about {(prepared or download) / _GIB:.1f}); free in {folder}: "
        f"{free / _GIB:.1f} GiB."
    )
    if exact and needed > free:
        raise DataError(f"{folder} lacks {(needed - free) / _GIB:.1f} GiB: free them, or choose another --data_dir.")


def _verify(files: dict[Path, Any], say: Callable[[str], None]) -> None:
    for path, info in files.items():
        if path.stat().st_size != int(info.size):
            raise DataError(f"{path} has {path.stat().st_size} bytes, not {int(info.size)}: download it again.")
        say(f"Verifying the SHA-256 checksum of {path}.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != info.checksum:
                raise DataError(f"{path} is damaged, its checksum is not the published one: download it again.")


def _download_and_prepare(builder: Any, name: str, archives: str | None) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(
        manual_dir=str(Path(archives).expanduser()) if archives else None, try_download_gcs=False
    )
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except Exception as error:  # of a download, of the disk, or of TFDS's many own types
        raise DataError(
            f'"{name}" could not be prepared: {_one_line(error)}. What arrived is kept; the same command goes on.'
        ) from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares the data set named on the command line; exits 1 with one line on bad input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m vae_jcc.data.prepare", description="Make a TFDS data set ready as ArrayRecord."
    )
    parser.add_argument("name", help='as TFDS writes it: "imagenet2012", "imagenette/160px-v2"')
    parser.add_argument("--data_dir", default=None, help="default: TFDS_DATA_DIR, else ~/tensorflow_datasets")
    parser.add_argument("--archives", default=None, help="folder with archives that were downloaded by hand")
    options = parser.parse_args(arguments)
    try:
        prepare(options.name, data_dir=options.data_dir, archives=options.archives)
    except DataError as error:
        sys.exit(f"DataError: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
