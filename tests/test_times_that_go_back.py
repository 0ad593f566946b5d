"""Transport streams whose packets change places or come twice, as over a bad line: a whole file comes out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av
import pytest
from media_factory import make_clip, read_back

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.media.video_index import index_video

PACKET = 188
VIDEO, SOUND = 256, 257


def packets_of(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[i : i + PACKET] for i in range(0, len(data), PACKET)]


def pid(packet: bytes) -> int:
    return (packet[1] & 31) << 8 | packet[2]


def starts(packets: list[bytes], stream: int) -> list[int]:
    """Where pictures, or stretches of sound, begin."""
    return [i for i, p in enumerate(packets) if pid(p) == stream and p[1] & 0x40]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_pictures_that_changed_places_are_all_there(codec: str, suffix: str, tmp_path: Path) -> None:
    clip, damaged = make_clip(tmp_path / "clip.ts", codec=codec, frames=32), tmp_path / "damaged.ts"
    packets = packets_of(clip)
    video = starts(packets, VIDEO)
    first, second, end = video[12:15]
    changed = packets[:first] + packets[second:end] + packets[first:second] + packets[end:]
    damaged.write_bytes(b"".join(changed))
    with av.open(str(damaged)) as container:
        dts = [p.dts for p in container.demux(video=0) if p.size]
    assert dts != sorted(dts), "its decoding times go back"
    index = index_video(damaged)
    assert list(index.dts) == sorted(set(index.dts)) and (index.dts <= index.pts).all()
    result = inpaint_video(damaged, tmp_path / f"out{suffix}", method="telea")
    before, after = (sorted(read_back(path).times) for path in (clip, tmp_path / f"out{suffix}"))
    assert result.frames == len(after) == len(before)
    assert all(abs(b - after[0] - a + before[0]) < 0.002 for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_sound_that_comes_twice_stays_in_order(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip, damaged = make_clip(tmp_path / "clip.ts", frames=32, audio="mp2"), tmp_path / "damaged.ts"
    packets = packets_of(clip)
    sound = starts(packets, SOUND)
    again = [p[:3] + bytes([p[3] ^ 5]) + p[4:] for p in packets[sound[1] : sound[2]] if pid(p) == SOUND]
    hit = starts(packets, VIDEO)[8] + 1  # and a keyframe that loses data
    parts = [[*(again if i == sound[3] else []), *([] if i == hit else [p])] for i, p in enumerate(packets)]
    damaged.write_bytes(b"".join(p for part in parts for p in part))
    with av.open(str(damaged)) as container:
        dts = [p.dts for p in container.demux(audio=0) if p.size]
    assert dts != sorted(dts), "its times go back"
    result = inpaint_video(damaged, tmp_path / f"out{suffix}", method="telea")
    assert result.frames == 32 and result.audit["ok"]
    assert "the times of stream 1 go back" in caplog.text
    before, after = read_back(damaged), read_back(tmp_path / f"out{suffix}")
    assert Counter(before.packets[1]) == Counter(after.packets[1]) and before.packets[1] == after.packets[1]
    assert after.packet_times[1] == sorted(after.packet_times[1])
