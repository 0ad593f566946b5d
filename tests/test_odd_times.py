"""Files whose frames share a time, have each other's, or whose times go back: no frame lost, or one clear line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import make_clip, read_back

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.errors import InputError

FRAMES = 24


def retimed(clip: Path, target: Path, times: Callable[[int], int]) -> Path:
    """The packets of a clip without reordering; packet k is shown at `times(k)` steps of 1/25 s, decoded at k - 3."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            step = round(1 / 25 / packet.time_base)
            packet.pts, packet.dts, packet.stream = times(number) * step, (number - 3) * step, stream
            out.mux(packet)
    return target


def shown(path: Path) -> list[tuple[float, np.ndarray]]:
    """(time, grey picture) of every frame, in order of time."""
    with av.open(str(path)) as container:
        frames = [(float(f.time or 0), f.to_ndarray(format="gray")) for f in container.decode(video=0)]
    return sorted(frames, key=lambda pair: pair[0])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", audio=None, frames=FRAMES, options={"bf": "0", "crf": "10"})


def swapped(number: int) -> int:
    return {10: 11, 11: 10}.get(number, number)


def shared(number: int) -> int:
    return 9 if number == 10 else number


@pytest.mark.parametrize("times", [swapped, shared])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_frames_with_odd_times_are_all_there(clip: Path, tmp_path: Path, times: Callable[[int], int],
                                             suffix: str) -> None:
    if suffix == ".mkv" and times is swapped:
        suffix = ".mov"  # Matroska has no decoding times: its reader takes these for reordered pictures
    odd = retimed(clip, tmp_path / f"odd{suffix}", times)
    result = inpaint_video(odd, tmp_path / f"out{suffix}", box=("0,0,16,16",), method="telea", crf=5)
    before, after = shown(odd), shown(tmp_path / f"out{suffix}")
    assert result.frames == len(after) == len(before) == FRAMES
    for (time, picture), (time_after, picture_after) in zip(before, after, strict=True):
        assert abs((time - before[0][0]) - (time_after - after[0][0])) < 0.002
        assert np.abs(picture[20:].astype(int) - picture_after[20:]).mean() < 2.5


def test_recordings_joined_end_to_end_are_one_clear_line(clip: Path, tmp_path: Path) -> None:
    part = make_clip(tmp_path / "part.ts", audio=None)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    with pytest.raises(InputError, match=r"its times go back by .* at packet 24"):
        inpaint_video(joined, tmp_path / "out.ts", box=("0,0,16,16",), method="telea")
    assert not (tmp_path / "out.ts").exists()


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_start_between_two_samples_of_the_sound_stays(suffix, tmp_path):
    """Seen in a real clip: pictures start 33 ms after a sound of 44.1 kHz."""
    times = [2971 + 3600 * i for i in range(12)]
    source = make_clip(tmp_path / f"a.{suffix}", frames=12, times=times, time_base=Fraction(1, 90000),
                       muxer={"movie_timescale": "90000"})
    assert read_back(source).times[0] == Fraction(2971, 90000)
    result = inpaint_video(source, tmp_path / f"out.{suffix}", box=("10,10,20,20",), method="telea")
    before, after = read_back(source), read_back(tmp_path / f"out.{suffix}")
    assert result.audit["shift_seconds"] == 0
    assert before.times == after.times and before.packet_times == after.packet_times


def test_a_program_stream_that_starts_early_stays_there(tmp_path):
    source = make_clip(tmp_path / "a.mpg", codec="mpeg1video", audio="mp2", muxer={"preload": "0"})
    assert read_back(source).times[0] < Fraction(1, 10)
    result = inpaint_video(source, tmp_path / "out.mpg", box=("10,10,20,20",), method="telea")
    assert result.audit["shift_seconds"] == 0 and read_back(source).times == read_back(tmp_path / "out.mpg").times


def test_an_error_names_the_file_that_was_given(tmp_path: Path) -> None:
    """And not the copy in which its wrong bits are right."""
    part = make_clip(tmp_path / "part.ts", audio=None, frames=FRAMES, size=(176, 144), options={"bf": "0", "crf": "10"})
    whole = bytearray(part.read_bytes())
    with av.open(str(part)) as container:
        place = [p.pos for p in container.demux(video=0) if p.size][12] + 188 + 100
    whole[place] ^= 16
    joined = tmp_path / "joined.ts"
    other = make_clip(tmp_path / "other.ts", audio=None, frames=FRAMES, size=(192, 144), options={"bf": "0"})
    end = bytearray(other.read_bytes())
    with av.open(str(other)) as container:
        last = [p.pos for p in container.demux(video=0) if p.size][18] + 188
    del end[last : last + 188]
    joined.write_bytes(bytes(whole) + bytes(end))
    with pytest.raises(InputError, match=r"joined\.ts: its picture changes"):
        inpaint_video(joined, tmp_path / "out.ts")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["joined.ts", "other.ts", "part.ts"]
