"""Pictures to measure on: a folder, zip or tar, or the samples in the package."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from faceinpaint_cli.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Item:
    """One picture of a data set: its name there, and its bytes when they are wanted."""

    name: str
    read: Callable[[], bytes]

    @property
    def stem(self) -> str:
        """The name without its suffix, by which masks and external outputs are matched."""
        return str(Path(self.name).with_suffix(""))


def bundled_samples() -> Path:
    """The folder of pictures that the package brings."""
    return Path(str(resources.files("faceinpaint_bench"))) / "samples"


def open_source(path: Path, flag: str = "DATA") -> list[Item]:
    """All pictures in a folder (recursively), zip or tar, or the one picture named, sorted by name.

    DataError where there is none.
    """
    if not path.exists():
        raise DataError(f"{flag}: {path} does not exist")
    if path.is_dir():
        items = [Item(p.relative_to(path).as_posix(), p.read_bytes) for p in path.rglob("*") if p.is_file()]
    elif path.suffix.lower() in SUFFIXES:
        items = [Item(path.name, path.read_bytes)]
    elif zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        items = [Item(n, _of_zip(archive, n)) for n in archive.namelist() if not n.endswith("/")]
    elif tarfile.is_tarfile(path):
        with _tar(path) as tar:
            plain = tar.fileobj is not None and isinstance(tar.fileobj, io.BufferedReader)
            items = [Item(m.name, _of_tar(path, m, plain)) for m in tar.getmembers() if m.isfile()]
    else:
        raise DataError(f"{flag}: {path} is no folder, zip, tar or picture")
    found = sorted((i for i in items if Path(i.name).suffix.lower() in SUFFIXES and not _hidden(i.name)),
                   key=lambda i: i.name)
    if not found:
        raise DataError(f"{flag}: no pictures ({', '.join(sorted(SUFFIXES))}) in {path}")
    return found


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    """DataError where its list of members breaks off."""
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken tar ({error}); get it again") from None


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """HWC uint8 RGB; DataError where it is no readable picture."""
    picture = _open(data, name)
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow's conversion would clip
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(picture.convert("RGB"))


def decode_mask(data: bytes, name: str, size: int) -> np.ndarray:
    """(size, size) bool, True where the picture is white; other sizes are resized, nearest pixel."""
    picture = _open(data, name).convert("L").resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(picture) >= 128


def _open(data: bytes, name: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a readable picture ({error})") from None
    return picture


def _hidden(name: str) -> bool:
    """Of hidden files, and of archives' members that would lead out of a folder: never looked at."""
    return Path(name).is_absolute() or any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)


def _of_zip(archive: zipfile.ZipFile, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            raise DataError(f"{name} is broken in its zip ({error})") from None

    return read


def _of_tar(path: Path, member: tarfile.TarInfo, plain: bool) -> Callable[[], bytes]:
    """From an uncompressed tar its bytes directly; else the tar is unpacked up to the member."""

    def read() -> bytes:
        if plain:
            with path.open("rb") as file:
                file.seek(member.offset_data)
                return file.read(member.size)
        with tarfile.open(path) as tar:
            stream = tar.extractfile(member)
            if stream is None:
                raise DataError(f"{member.name} is not a file in {path}")
            return stream.read()

    return read
