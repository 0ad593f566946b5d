"""Damage in a video stream that is not the one that is repaired: copied, and said."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from media_factory import encode, scene

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.media.video_reader import with_data


def beside(folder: Path, codec: str, damage: bool) -> Path:
    """A clip of two video streams, the second of them whole or without the inside of one packet."""
    first = encode(folder / "first.mkv", "libx264", (scene(i, 144, 176) for i in range(20)))
    second = encode(folder / "second.mkv", codec, (scene(i, 96, 128) for i in range(20)))
    with (av.open(str(folder / "both.mkv"), "w") as out, av.open(str(first)) as one, av.open(str(second)) as other):
        copies = [out.add_stream_from_template(c.streams.video[0], opaque=True) for c in (one, other)]
        for copy, container in zip(copies, (one, other), strict=True):
            for number, packet in enumerate(p for p in container.demux(video=0) if p.size):
                if damage and copy is copies[1] and number == 5:
                    data = bytes(packet)
                    packet = with_data(packet, data[: len(data) // 3])
                packet.stream = copy
                out.mux(packet)
    return folder / "both.mkv"


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_damage_in_another_video_stream_is_said(tmp_path: Path, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    clip = beside(tmp_path, codec, damage=True)
    assert not diagnose(clip).damaged
    inpaint_video(clip, tmp_path / "out.mkv")
    said = [r.getMessage() for r in caplog.records if "video stream 1" in r.getMessage()]
    assert len(said) == 1 and "only stream 0 is repaired" in said[0]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_another_video_stream_that_is_whole_is_not_mentioned(tmp_path: Path, codec: str) -> None:
    assert diagnose(beside(tmp_path, codec, damage=False)).notes == ()
