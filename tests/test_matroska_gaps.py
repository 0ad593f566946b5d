"""Matroska files whose elements are hit, not only what is in them: whole blocks behind are read all the same."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import make_clip, read_back

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.media.matroska_gaps import copy_without_gaps, find_gaps

CLUSTER = b"\x1f\x43\xb6\x75"


def clip(folder: Path, suffix: str = ".mkv", **changes: object) -> Path:
    """Two seconds in clusters of one."""
    codec = {} if suffix == ".mkv" else {"codec": "libvpx-vp9", "audio": "libopus"}
    options = {"bf": "0"} if suffix == ".mkv" else {"deadline": "realtime", "cpu-used": "8"}
    return make_clip(folder / f"clip{suffix}", **{"frames": 50, "muxer": {"cluster_time_limit": "1000"}, **codec,
                                                  "options": options, **changes})


def read(path: Path) -> dict[int, list[tuple[int, bytes]]]:
    """(time, bytes) of the packets of each stream, as far as a reader gets."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                found.setdefault(packet.stream_index, []).append((packet.pts, bytes(packet)))
    return found


def block(path: Path, number: int) -> tuple[int, int]:
    """Where the block of a video packet begins in the file, and where it ends."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
        at = path.read_bytes().index(bytes(packet))
        return path.read_bytes().rindex(b"\xa3", at - 8, at), at + packet.size


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
@pytest.mark.parametrize("what", ["zeroed", "noise", "deleted", "inserted"])
def test_whole_blocks_behind_are_read(what: str, suffix: str, tmp_path: Path) -> None:
    whole = clip(tmp_path, suffix)
    data, damaged, mended = bytearray(whole.read_bytes()), tmp_path / f"damaged{suffix}", tmp_path / f"mended{suffix}"
    start, stop = block(whole, 12)
    stop -= 1
    noise = np.random.default_rng(1).bytes(stop - start)
    data[start:stop] = {"zeroed": bytes(stop - start), "noise": noise, "deleted": b"", "inserted": noise}[what]
    damaged.write_bytes(data)
    gaps = find_gaps(damaged)
    assert gaps is not None and len(gaps.stretches) == 1
    copy_without_gaps(damaged, mended, gaps)
    before, plain, after = read(whole), read(damaged), read(mended)
    assert mended.stat().st_size == damaged.stat().st_size and find_gaps(mended) is None
    for stream, packets in before.items():
        assert set(after[stream]) <= set(packets), "nothing is made up, nothing is moved in time"
        assert len(packets) - 3 <= len(after[stream])
    assert sum(map(len, after.values())) > sum(map(len, plain.values())) + 3


def test_a_lost_head_of_a_cluster_moves_nothing_in_time(tmp_path: Path) -> None:
    whole = clip(tmp_path)
    data = bytearray(whole.read_bytes())
    second = data.index(CLUSTER, data.index(CLUSTER) + 1)
    data[second : second + 24] = bytes(24)
    (tmp_path / "damaged.mkv").write_bytes(data)
    gaps = find_gaps(tmp_path / "damaged.mkv")
    assert gaps is not None
    copy_without_gaps(tmp_path / "damaged.mkv", tmp_path / "mended.mkv", gaps)
    before, after = read(whole), read(tmp_path / "mended.mkv")
    assert all(set(after[stream]) <= set(before[stream]) for stream in before)


def test_a_block_whose_time_is_lost_is_left_out(tmp_path: Path) -> None:
    whole = clip(tmp_path)
    data = bytearray(whole.read_bytes())
    start, _ = block(whole, 12)
    data[start + 4 : start + 60] = bytes(56)
    (tmp_path / "damaged.mkv").write_bytes(data)
    gaps = find_gaps(tmp_path / "damaged.mkv")
    assert gaps is not None
    copy_without_gaps(tmp_path / "damaged.mkv", tmp_path / "mended.mkv", gaps)
    before, after = read(whole), read(tmp_path / "mended.mkv")
    assert len(after[0]) == len(before[0]) - 1 and set(after[0]) < set(before[0]) and after[1] == before[1]


@pytest.mark.parametrize("changes", [
    {}, {"muxer": {"live": "1"}}, {"audio": None, "options": {"bf": "3"}}, {"rate": 1, "frames": 20, "audio": None},
    {"subtitles": True, "chapters": True}, {"audio": "pcm_s16le"},
], ids=str)
def test_whole_files_have_no_gaps(changes: dict[str, object], tmp_path: Path) -> None:
    assert find_gaps(clip(tmp_path, **changes)) is None


def test_other_files_and_broken_heads_have_none(tmp_path: Path) -> None:
    whole = clip(tmp_path)
    data = whole.read_bytes()
    for name, content in (("cut", data[: len(data) * 2 // 3]), ("empty", b""), ("head", bytes(200) + data[200:]),
                          ("tracks", data[:100] + bytes(300) + data[400:])):
        (tmp_path / name).write_bytes(content)
        assert find_gaps(tmp_path / name) is None
    assert find_gaps(make_clip(tmp_path / "a.mp4")) is None


def test_only_the_hit_frame_is_lost_and_put_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = clip(tmp_path)
    data = bytearray(whole.read_bytes())
    start, stop = block(whole, 12)
    data[start : stop - 1] = bytes(stop - 1 - start)
    (tmp_path / "damaged.mkv").write_bytes(data)
    result = inpaint_video(tmp_path / "damaged.mkv", tmp_path / "out" / "whole.mkv", method="telea")
    before, after = read_back(whole), read_back(tmp_path / "out" / "whole.mkv")
    assert result.frames == 50 and after.times == before.times
    assert set(after.packets[1]) <= set(before.packets[1]) and len(after.packets[1]) >= len(before.packets[1]) - 2
    assert "1 stretches of it are destroyed" in caplog.text
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["whole.mkv"]
