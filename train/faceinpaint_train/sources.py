"""Pictures out of folders, zips and tars, with the official CelebA test partition always left out."""

from __future__ import annotations

import contextlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from faceinpaint_cli.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
PARTITION_FILE = "list_eval_partition.txt"
CELEBA_NAME = re.compile(r"(\d{6})\.(jpg|png)")
CELEBA_VALIDATION, CELEBA_TEST, CELEBA_END = 162_771, 182_638, 202_600
"""First numbers of CelebA's official validation and test partitions, and the number after the last."""
TEST_REASON = "named like CelebA's test partition"
HELD_OUT = 0.02
"""Share of the pictures without an official partition that is held out for validation."""


def check_sources(paths: Sequence[Path]) -> None:
    """DataError where a path is no folder, zip or tar that can be read; nothing is decoded."""
    for path in paths:
        if not path.exists():
            raise DataError(f"no training data at {path}: give folders, zips or tars as DATA")
        with _readable(path):
            if path.is_dir():
                next(path.iterdir(), None)
            elif not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
                raise DataError(f"{path} is no folder, zip or tar of pictures: give one as DATA")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """DataError in the place of what files and archives raise that cannot be read."""
    try:
        yield
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as training data: {error}") from None


def read_source(path: Path, partitions: dict[str, str], left_out: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every picture in a folder, zip or tar that is not of a test partition, in name order; those of
    one are counted in `left_out`.

    A `list_eval_partition.txt` found in it fills `partitions` (name to train, val or test) first. DataError as
    `check_sources`, and where an archive turns out to be broken.
    """
    check_sources([path])
    with _readable(path):
        if path.is_dir():
            files = {str(PurePosixPath(p.relative_to(path))): p for p in sorted(path.rglob("*")) if p.is_file()}
            yield from _chosen(list(files), lambda name: files[name].read_bytes(), partitions, left_out)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = sorted(i.filename for i in archive.infolist() if not i.is_dir())
                yield from _chosen(names, archive.read, partitions, left_out)
        else:
            with tarfile.open(path) as archive:
                members = {m.name: m for m in archive if m.isfile()}
                yield from _chosen(sorted(members), lambda n: _read(archive, members[n]), partitions, left_out)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def _chosen(
    names: list[str], read: Callable[[str], bytes], partitions: dict[str, str], left_out: dict[str, int]
) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if PurePosixPath(name).name == PARTITION_FILE:
            partitions.update(parse_partitions(read(name).decode("utf-8", "replace")))
    for name in names:
        if PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        if partition_of(name, partitions) == "test":
            left_out[TEST_REASON] = left_out.get(TEST_REASON, 0) + 1
        else:
            yield name, read(name)


def parse_partitions(text: str) -> dict[str, str]:
    """CelebA's `name number` lines as name to train (0), val (1) or test (2)."""
    kinds = {"0": "train", "1": "val", "2": "test"}
    rows = (line.replace(",", " ").split() for line in text.splitlines())
    return {row[0]: kinds[row[1]] for row in rows if len(row) == 2 and row[1] in kinds}


def partition_of(name: str, partitions: dict[str, str]) -> str:
    """train, val or test: by the partition file, else by CelebA's numbers, else a fixed 2 % by name to val."""
    bare = PurePosixPath(name).name
    if bare in partitions:
        return partitions[bare]
    match = CELEBA_NAME.fullmatch(bare)
    if match and 1 <= int(match[1]) < CELEBA_END:
        number = int(match[1])
        return "test" if number >= CELEBA_TEST else "val" if number >= CELEBA_VALIDATION else "train"
    return "val" if held_out(name) else "train"


def held_out(name: str) -> bool:
    return zlib.crc32(PurePosixPath(name).name.encode()) % 10_000 < 10_000 * HELD_OUT
