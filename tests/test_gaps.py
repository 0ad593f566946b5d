"""Pictures of MPEG-4, AV1 and VP9 whose packets are lost: put back where the stream tells, and only there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import scene

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.media.av1_order import Av1Order
from faceinpaint_cli.media.mpeg4_headers import Mpeg4Headers, Vop

SIZE = (144, 176)
CODINGS = {
    "mpeg4": ("mpeg4", {"qscale": "4", "threads": "1"}),
    "mpeg4 with B": ("mpeg4", {"qscale": "4", "threads": "1", "bf": "2"}),
    "av1": ("libsvtav1", {"crf": "30", "preset": "10", "svtav1-params": "lp=1"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:pools=1:frame-threads=1"}),
}


def encoded(path: Path, coding: str, numbers: Iterable[int], rate: Fraction = Fraction(25)) -> Path:
    """A clip of these pictures of a scene, each at its own time."""
    codec, options = CODINGS[coding]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = 24
        for number in numbers:
            rgb = np.ascontiguousarray(np.repeat(scene(number, *SIZE)[..., None], 3, 2))
            frame = av.VideoFrame.from_ndarray(rgb).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def without(clip: Path, lost: Sequence[int]) -> Path:
    target = clip.with_stem("damaged")
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            if number not in lost:
                packet.stream = copy
                out.mux(packet)
    return target


def times(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return sorted(p.pts for p in container.demux(video=0) if p.size)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("coding", CODINGS)
def test_lost_pictures_are_put_back_at_their_times(tmp_path: Path, coding: str, suffix: str) -> None:
    clip = encoded(tmp_path / f"clean{suffix}", coding, range(60), Fraction(30000, 1001))
    whole = diagnose(clip)
    assert not whole.damaged
    for lost in ([5], [10, 33], [8, 9, 40], [17, 19]):
        found = diagnose(without(clip, lost))
        assert {m.pts for g in found.groups for m in g.missing} == {whole.pictures[i].pts for i in lost}
        assert found.times == times(clip)


@pytest.mark.parametrize("coding", CODINGS)
def test_gaps_of_a_variable_rate_are_left_alone(tmp_path: Path, coding: str) -> None:
    for skipped in ({9}, {12, 13, 14}, {4, 20, 21, 37, 50}):
        clip = encoded(tmp_path / "clean.mp4", coding, (i for i in range(60) if i not in skipped))
        assert not diagnose(clip).damaged


def test_a_clip_that_lost_pictures_comes_out_as_long_as_it_was(tmp_path: Path) -> None:
    clip = encoded(tmp_path / "clean.mp4", "mpeg4", range(50))
    result = inpaint_video(without(clip, [7, 30]), tmp_path / "out.mp4")
    assert result.frames == 50 and times(tmp_path / "out.mp4") == times(clip)


@pytest.mark.parametrize("coding", ["mpeg4", "mpeg4 with B", "av1"])
def test_headers_are_read_or_left_out(tmp_path: Path, coding: str) -> None:
    clip = encoded(tmp_path / "clean.mkv", coding, range(30))
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata
        packets = [bytes(p) for p in container.demux(stream) if p.size]
    reader = Av1Order if coding == "av1" else Mpeg4Headers
    whole = reader(extradata)
    found = [whole.of(data) for data in packets]
    assert None not in found
    if coding == "av1":
        assert [order.count for order in found if order] == list(range(30))
    elif coding == "mpeg4":
        rounding = [vop.rounding for vop in found if isinstance(vop, Vop)]
        assert rounding[:6] == [None, True, False, True, False, True]
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = reader(extradata)
        for data in packets[:8]:
            hurt = bytearray(data[:200])
            for place in rng.integers(0, min(40, len(hurt)), 4):
                hurt[place] = rng.integers(0, 256)
            damaged.of(bytes(hurt))
        assert reader(b"").of(packets[1]) is None
