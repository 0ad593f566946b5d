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

try:
    import fcntl
except ImportError:  # not on Windows: what a killed run leaves stays there
    fcntl = None  # type: ignore[assignment]

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
    stays as it was. What a killed process left of the same target is removed. A disk that is full or read-only,
    a folder without permission and the like raise OutputError.
    """
    with _beside(target) as temporary:
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
    with _beside(target.with_suffix(suffix)) as temporary:
        try:
            yield temporary
        except OSError as e:
            if e.errno in _TARGET_ERRORS:
                raise _cannot_write(target, e) from e
            raise
        finally:
            _remove(temporary)


def lock_folder(folder: Path) -> int | None:
    """A descriptor that holds the lock of an existing folder until it is closed; BlockingIOError where another run
    does. None where there are no locks."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, folder):  # its run has just ended, and removed it
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def hidden_beside(target: Path, name: str, tail: str) -> Path:
    """`.NAMETAIL` in the folder of `target`; a name that is too long for that is cut, and told apart by a digest."""
    room = _NAME_BYTES - 1 - len(os.fsencode(tail))
    whole = os.fsencode(name)
    if len(whole) > room:
        tail = f".{blake2b(whole, digest_size=4).hexdigest()}{tail}"
        name = whole[: room - 9].decode(errors="ignore")
    return target.with_name(f".{name}{tail}")


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty file in the folder of `target`, locked meanwhile: so another run knows that it is not left over."""
    temporary = hidden_beside(target, target.stem, f"{TEMPORARY_MARK}tmp{target.suffix}")
    try:
        if target.is_dir():
            raise OutputError(f"cannot write {target}: a folder of that name exists; write it elsewhere")
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _create_locked(temporary)
        if descriptor is None:
            temporary = hidden_beside(target, target.stem, f"{TEMPORARY_MARK}tmp-{secrets.token_hex(4)}{target.suffix}")
            descriptor = _create(temporary)
    except OSError as e:
        raise _cannot_write(target, e) from e
    try:
        yield temporary
    finally:
        os.close(descriptor)


def _create(path: Path) -> int:
    # Not tempfile.mkstemp: its mode 0600 would stay on the output; this one follows the umask.
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)


def _create_locked(path: Path) -> int | None:
    """A new file, locked, once what a dead process left of that name is removed; None where a live one has it."""
    if fcntl is None:
        return None
    _remove_left_over(path)
    try:
        descriptor = _create(path)
    except FileExistsError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # before it was locked another run took it for left over, and removes it
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks, where nothing is ever taken for left over
        return descriptor
    if not _is_at(descriptor, path):  # taken for left over, and removed already
        os.close(descriptor)
        return None
    return descriptor


def _remove_left_over(path: Path) -> None:
    """Remove the file if nobody holds its lock: the system takes it back from a process that dies, however it does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # usually: there is none
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            path.unlink()
    except OSError:  # somebody writes it, or it may not be removed: it stays
        return
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


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
