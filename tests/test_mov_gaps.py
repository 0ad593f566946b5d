"""Fragmented mp4 of which a disk lost a stretch: what stands behind it is read all the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from media_factory import make_clip, read_back

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.media.mov_gaps import find_destroyed

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def make_fragmented(path: Path) -> Path:
    return make_clip(path, audio="aac", frames=40, size=(160, 128), muxer=FRAGMENTED)


def boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """(kind, start, end) of each."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], at, at + size))
        at += size
    return found


@pytest.mark.parametrize(("kind", "first", "last", "lost"), [
    (b"moof", 0, 8, 8), (b"moof", 0, 200, 8), (b"moof", 20, 60, 8), (b"mdat", 0, 8, 0), (b"moof", -300, 20, 8),
], ids=["head of a fragment", "fragment", "inside of a fragment", "head of its data", "end of data and a fragment"])
@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "anything"])
def test_what_stands_behind_a_destroyed_fragment_is_there(kind: bytes, first: int, last: int, lost: int, zeros: bool,
                                                          tmp_path: Path) -> None:
    clip, damaged = make_fragmented(tmp_path / "clip.mp4"), tmp_path / "damaged.mp4"
    data = clip.read_bytes()
    start = [a for k, a, _ in boxes(data) if k == kind][2]
    junk = bytes(last - first) if zeros else random.Random(1).randbytes(last - first)
    damaged.write_bytes(data[: start + first] + junk + data[start + last :])
    result = inpaint_video(damaged, tmp_path / "out.mp4")
    assert result.audit["ok"] and result.frames == 40
    assert read_back(tmp_path / "out.mp4").times == read_back(clip).times
    assert (result.frames_damaged >= lost) if lost else result.method == "copy"


def test_whole_and_broken_off_files_have_nothing_destroyed(tmp_path: Path) -> None:
    clip = make_fragmented(tmp_path / "clip.mp4")
    assert not find_destroyed(clip) and not find_destroyed(make_clip(tmp_path / "plain.mp4", audio="aac"))
    data = clip.read_bytes()
    fragments = [a for k, a, _ in boxes(data) if k == b"moof"]
    for end in (fragments[2] + 30, fragments[3] - 100, fragments[2]):
        (tmp_path / "cut.mp4").write_bytes(data[:end])
        assert not find_destroyed(tmp_path / "cut.mp4")
    own = (16).to_bytes(4, "big") + b"acme" + bytes(8)  # a box of a maker's own
    (tmp_path / "own.mp4").write_bytes(data[: fragments[2]] + own + data[fragments[2] :] + own)
    assert not find_destroyed(tmp_path / "own.mp4")
    plain = (tmp_path / "plain.mp4").read_bytes()
    (tmp_path / "plain.mp4").write_bytes(plain[:40] + bytes(8) + plain[48:])
    assert not find_destroyed(tmp_path / "plain.mp4")
