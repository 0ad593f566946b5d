"""Damaged sound beside damaged pictures: copied, and said."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import make_clip

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A clip whose pictures are hit, with sound."""
    clip = make_clip(tmp_path / "clean.mp4", size=(128, 160), options={"crf": "12"})
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", bytes=100_000, spare_keyframes=True), tmp_path)
    return tmp_path / "damaged.mp4"


def spoil_sound(path: Path, first: int, count: int) -> None:
    """Random bytes over the inside of `count` audio packets from number `first` on."""
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(1)
    for packet in audio_packets(path)[first : first + count]:
        place = data.find(packet) + 8
        data[place : place + len(packet) - 16] = rng.bytes(len(packet) - 16)
    path.write_bytes(data)


def test_damaged_sound_is_copied_and_said(damaged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil_sound(damaged, 20, 4)
    before = audio_packets(damaged)
    result = inpaint_video(damaged, tmp_path / "out.mp4")
    assert audio_packets(tmp_path / "out.mp4") == before
    said = [r.getMessage() for r in caplog.records if "audio stream 1 (aac) is damaged too" in r.getMessage()]
    assert len(said) == 1 and "the first at 0.4" in said[0]
    assert any("is damaged too" in note for note in result.audit["damage"]["notes"])


def test_whole_sound_is_not_mentioned(damaged: Path) -> None:
    assert diagnose(damaged).damaged and diagnose(damaged).notes == ()
