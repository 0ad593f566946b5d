"""Videos that end before their headers say."""

from pathlib import Path

import pytest
from media_factory import make_clip

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.media.broken_off import broken_off
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.types import Job

MP4 = {"movflags": "faststart"}
BOX = {"box": ("10,10,20,20",), "method": "telea"}


def repair(source, output, settings):
    config = RunConfig(**settings)
    return repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config), None)


@pytest.mark.parametrize("settings", [BOX, {}], ids=["box", "detect"])
@pytest.mark.parametrize(("name", "codec", "muxer"), [
    ("a.mkv", "libx264", {}), ("a.webm", "libvpx-vp9", {}), ("a.mp4", "libx264", MP4), ("a.mov", "libx264", MP4),
    ("a.avi", "mpeg4", {})])
def test_that_a_video_breaks_off_is_said(name, codec, muxer, settings, tmp_path, caplog):
    whole = make_clip(tmp_path / name, codec=codec, muxer=muxer, audio=None, frames=60)
    size = whole.stat().st_size
    assert broken_off(whole) == [] and diagnose(whole).notes == ()
    source = tmp_path / f"cut-{name}"
    source.write_bytes(whole.read_bytes()[: size * 4 // 5])
    result = repair(source, tmp_path / f"out-{name}", settings)
    said = f"it breaks off: {size - size * 4 // 5:,} of its {size:,} bytes are not there"
    assert caplog.text.count(said) == 1 and str(result.audit).count(said) == 1
    assert said in diagnose(source).to_dict()["notes"][0]


@pytest.mark.parametrize("length", [None, 3000, 40, 10])
def test_nothing_is_said_of_a_stream_that_does_not_say_how_long_it_is(length, tmp_path):
    live = make_clip(tmp_path / "live.mkv", muxer={"live": "1"}, audio=None)
    live.write_bytes(live.read_bytes()[:length])
    assert broken_off(live) == []


def test_what_stands_behind_an_mp4_is_not_taken_for_a_part_of_it(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", audio=None)
    with clip.open("ab") as file:
        file.write(b"TAG of somebody, of any length")
    assert broken_off(clip) == []
