"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from faceinpaint_cli.errors import OutputError

TEMPORARY_MARK = ".faceinpaint-"
_NAME_BYTES = 255  # the longest file name that the usual file systems take
_TARGET_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""System errors that can only come from the file being written, whatever the body was doing."""


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary file to write in place of `target`: `with atomic_path(t) as p: p.write_bytes(...)`.

    The file lies in the target's folder (created if missing), so that the final rename is atomic, and keeps
    the target's suffix, so that encoders and muxers recognise the format. When the body ends it is flushed
    to the disk and renamed onto `target`; when the body raises, Ctrl-C included, it is removed and `target`
    stays as it was. A disk that is full or read-only, a folder without permission and the like raise
    OutputError.
    """
    temporary = _create_beside(target)
    try:
        yield temporary
        _publish(temporary, target)
    except OSError as e:
        _remove(temporary)
        if e.errno in _TARGET_ERRORS:
            raise _cannot_write(target, e) from e
        raise
    except BaseException:
        _remove(temporary)
        raise


@contextlib.contextmanager
def scratch_beside(target: Path, suffix: str) -> Iterator[Path]:
    """A file with this suffix to be used meanwhile, in the folder of `target`; it is removed at the end. OutputError
    where it cannot be written."""
    temporary = _create_beside(target.with_suffix(suffix))
    try:
        yield temporary
    except OSError as e:
        if e.errno in _TARGET_ERRORS:
            raise _cannot_write(target, e) from e
        raise
    finally:
        _remove(temporary)


def hidden_beside(target: Path, name: str, tail: str) -> Path:
    """`.NAMETAIL` in the folder of `target`; a name that is too long for that is cut, and told apart by a digest."""
    room = _NAME_BYTES - 1 - len(os.fsencode(tail))
    whole = os.fsencode(name)
    if len(whole) > room:
        tail = f".{blake2b(whole, digest_size=4).hexdigest()}{tail}"
        name = whole[: room - 9].decode(errors="ignore")
    return target.with_name(f".{name}{tail}")


def _create_beside(target: Path) -> Path:
    if target.is_dir():
        raise OutputError(f"cannot write {target}: a folder of that name exists; write it elsewhere")
    temporary = hidden_beside(target, target.stem, f"{TEMPORARY_MARK}{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp: its mode 0600 would stay on the output; this one follows the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as e:
        raise _cannot_write(target, e) from e
    return temporary


def _publish(temporary: Path, target: Path) -> None:
    try:
        _flush(temporary, os.O_RDWR)
        temporary.replace(target)
        if os.name == "posix":
            _flush(target.parent, os.O_RDONLY)
    except OSError as e:
        raise _cannot_write(target, e) from e


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as e:
        # Some network and FUSE file systems cannot fsync a folder; the rename has still happened.
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def _cannot_write(target: Path, e: OSError) -> OutputError:
    remedy = "free some space" if e.errno in (errno.ENOSPC, errno.EDQUOT) else "write it elsewhere"
    return OutputError(f"cannot write {target}: {e.strerror or e}; {remedy}")
