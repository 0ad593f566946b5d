"""Files appear whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faceinpaint_cli.errors import OutputError
from faceinpaint_cli.media.atomic import TEMPORARY_MARK, atomic_path, scratch_beside


def test_writes_beside_the_target_and_renames(tmp_path):
    target = tmp_path / "new" / "deep" / "a.png"
    with atomic_path(target) as path:
        assert path.parent == target.parent and path.suffix == ".png" and path != target
        assert TEMPORARY_MARK in path.name
        path.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert [p.name for p in target.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("failure", [ValueError("broken"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, failure):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), atomic_path(target) as path:
        path.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "a.bin") as path:
            path.write_bytes(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*a\.png: No space left on device; free some space") as e, \
            atomic_path(tmp_path / "a.png") as path:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_really_full(tmp_path):
    target = tmp_path / "a.bin"
    with pytest.raises(OutputError, match="No space left"), atomic_path(target), \
            Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_body_that_are_not_the_targets_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.png"):
        (tmp_path / "missing").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="write it elsewhere"), atomic_path(tmp_path / "file" / "a.png"):
        pytest.fail("must not come here")


def test_a_folder_of_the_targets_name(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="a folder of that name exists"), atomic_path(tmp_path / "a.png"):
        pytest.fail("must not come here")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"), atomic_path(tmp_path / "a.png"):
            pytest.fail("must not come here")
    finally:
        tmp_path.chmod(0o700)


KILLED = """
import os, signal, sys
from pathlib import Path
from faceinpaint_cli.media.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as path:
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs file locks")
def test_what_a_killed_process_left_of_a_target_is_removed(tmp_path):
    target, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (target, other):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_path(target) as path:
        path.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    left, = set(tmp_path.iterdir()) - {target}
    assert left.name.startswith(".b.")


def test_what_is_being_written_is_not_taken_for_left_over(tmp_path):
    target = tmp_path / "a.png"
    with atomic_path(target) as first:
        first.write_bytes(b"first")
        with atomic_path(target) as second:
            assert first.read_bytes() == b"first" and second != first
            second.write_bytes(b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_the_longest_names_that_a_file_system_takes(tmp_path):
    target = tmp_path / ("ä" * 125 + ".png")
    with atomic_path(target) as path:
        path.write_bytes(b"x")
    assert target.read_bytes() == b"x"


@pytest.mark.parametrize(
    "failure", [None, KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "bad")])
def test_a_scratch_file_never_stays(tmp_path, failure):
    target = tmp_path / "new" / "a.mp4"
    expected = OutputError if getattr(failure, "errno", None) == errno.ENOSPC else type(failure)

    def use() -> None:
        with scratch_beside(target, ".mkv") as path:
            assert path.parent == target.parent and path.suffix == ".mkv" and TEMPORARY_MARK in path.name
            path.write_bytes(b"meanwhile")
            if failure is not None:
                raise failure

    if failure is None:
        use()
    else:
        with pytest.raises(expected):
            use()
    assert not list(target.parent.iterdir())
