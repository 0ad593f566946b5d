"""Interlaced video: what is repaired shows its fields in the order that it had."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags
from media_factory import make_clip, make_mask_video, masks_for, picture

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.media.audit import audit
from faceinpaint_cli.media.fields import FieldMarker, FieldReader
from faceinpaint_cli.media.planes import ToRgb, copy_frame, paste, same_samples
from faceinpaint_cli.media.smart_render import RenderPlan
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_writer import Written
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video import repair_video
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt
from faceinpaint_cli.types import Job

SIZE = (96, 96)


def interlaced(path: Path, codec: str, orders: str, pixels: str = "yuv420p", **options: str) -> Path:
    """A clip whose frames are marked as `orders` says: one letter a frame (T, B; P is left progressive)."""
    markers = {order: FieldMarker(order) for order in "TB"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 8, 0
        if codec != "ffv1":
            stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        for number, order in enumerate(orders):
            frame = av.VideoFrame.from_ndarray(picture(number, *SIZE)).reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(markers[order](frame) if order in markers else frame))
        out.mux(stream.encode())
    return path


def orders_of(path: Path) -> str:
    reader = FieldReader()
    with av.open(str(path)) as container:
        return "".join(map(reader, container.decode(video=0)))


def repaired(source: Path, output: Path, damaged=None, **settings):
    frames = index_video(source).frames
    marked = masks_for(frames, SIZE, damaged or range(frames))
    masks = make_mask_video(output.with_name("masks.mkv"), marked)
    config = RunConfig(method="telea", mask=str(masks), **settings)
    return repair_video(Job(source, output, "video", Path(source.name)), config, Stages(config))


@pytest.mark.parametrize(("said", "order"), [(1, "P"), (2, "T"), (3, "B")])
def test_the_order_is_read_as_the_container_says_it(said, order, tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.field_order = said
        for number in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, *SIZE)).reformat(format="yuv420p")))
    assert orders_of(path) == 3 * order
    assert index_video(path).look.fields == order


@pytest.mark.parametrize("order", ["T", "B"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv422p", "gray", "gbrp"])
def test_copies_keep_the_order_and_own_their_memory(order, pixels):
    plain = av.VideoFrame.from_ndarray(picture(0, *SIZE)).reformat(format=pixels)
    frame = FieldMarker(order)(plain)
    copy = copy_frame(frame)
    assert FieldReader()(copy) == order and FieldReader()(copy_frame(frame, (64, 48))) == order
    assert same_samples(copy, frame)
    np.frombuffer(copy.planes[0], np.uint8)[:] = 0
    assert not same_samples(copy, frame)


@pytest.mark.parametrize("height", [96, 94, 90])
def test_what_is_pasted_back_unchanged_changes_nothing(height):
    """The chroma of an interlaced picture belongs to rows of one field."""
    noise = np.random.default_rng(3).integers(0, 255, (height, 96, 3), np.uint8)
    frame = FieldMarker("T")(av.VideoFrame.from_ndarray(noise).reformat(format="yuv420p"))
    mask = np.zeros((height, 96), bool)
    mask[11:71, 5:50] = True
    result = paste(frame, ToRgb()(frame), mask)
    for i in (1, 2):
        before, after = (np.frombuffer(f.planes[i], np.uint8).astype(int) for f in (frame, result))
        away = np.abs(after - before)
        # colours that RGB does not have are cut off on the way; other samples come back but for rounding
        assert np.median(away) == 0 and (away > 2).mean() < 0.1


CLIPS = {"h264": ("libx264", "mp4", "yuv420p"), "mpeg2": ("mpeg2video", "mpg", "yuv420p"),
         "mpeg4": ("mpeg4", "avi", "yuv420p"), "prores": ("prores_ks", "mov", "yuv422p10le"),
         "ffv1": ("ffv1", "mkv", "yuv420p")}


@pytest.mark.parametrize("order", ["T", "B"])
@pytest.mark.parametrize("kind", CLIPS)
def test_the_order_stays(kind, order, tmp_path):
    codec, suffix, pixels = CLIPS[kind]
    source = interlaced(tmp_path / f"a.{suffix}", codec, 24 * order, pixels)
    result = repaired(source, tmp_path / f"b.{suffix}")
    assert result.audit["ok"] and not result.audit["notes"]
    assert orders_of(tmp_path / f"b.{suffix}") == orders_of(source) == 24 * order


@pytest.mark.parametrize("order", ["T", "B"])
def test_encoded_groups_are_as_the_copied_ones_beside_them(order, tmp_path):
    source = interlaced(tmp_path / "a.mp4", "libx264", 24 * order)
    result = repaired(source, tmp_path / "b.mp4", range(9, 13))
    assert result.audit["render"] == "smart" and orders_of(tmp_path / "b.mp4") == 24 * order


def test_fields_that_are_pictures_of_their_own_take_turns(tmp_path):
    source = make_clip(tmp_path / "a.mkv", size=SIZE, codec="libx265", audio=None,
                       options={"x265-params": "log-level=error:interlace=bff:bframes=0"})
    repaired(source, tmp_path / "b.mkv")
    assert orders_of(tmp_path / "b.mkv") == orders_of(source) == 12 * "BT"


@pytest.mark.parametrize(("codec", "written"), [(None, "TTPPTT"), ("mpeg2video", "TTTTTT"), ("h264", "TTTTTT")])
def test_progressive_frames_among_others_are_never_turned(codec, written, tmp_path):
    source = interlaced(tmp_path / "a.mkv", "ffv1", "TTPPTT")
    result = repaired(source, tmp_path / "b.mkv", codec=codec)
    assert orders_of(tmp_path / "b.mkv") == written
    said = "2 progressive frames are marked top field first"
    assert result.audit["ok"] and any(said in note for note in result.audit["notes"]) == (codec is not None)


@pytest.mark.parametrize("codec", ["mjpeg", "vp9", "hevc"])
def test_what_cannot_say_it_is_named_once(codec, tmp_path, caplog):
    source = interlaced(tmp_path / "a.mkv", "libx264", 6 * "T")
    result = repaired(source, tmp_path / "b.mkv", codec=codec)
    said = [r.getMessage() for r in caplog.records if "interlaced" in r.getMessage()]
    assert len(said) == 1 and "players will take its pictures for progressive ones" in said[0]
    assert any("the field order of 6 frames changes" in note for note in result.audit["notes"])


@pytest.mark.parametrize("other", ["B", "P"])
def test_the_audit_finds_another_order(other, tmp_path):
    source = index_video(interlaced(tmp_path / "a.mkv", "ffv1", 6 * "T"))
    output = interlaced(tmp_path / "b.mkv", "ffv1", 5 * "T" + other)
    written = Written(frames=list(range(6)), fields=dict.fromkeys(range(6), "T"))
    found = audit(source, output, RenderPlan.full(source), written)
    name = {"B": "bottom field first", "P": "progressive"}[other]
    assert found.problems == [f"the field order of 1 frames changes (frame 5 is {name} instead of top field first)"]


@pytest.mark.parametrize("order", ["T", "B"])
def test_damaged_h264_is_mended_and_keeps_its_fields(order, tmp_path):
    """Its pictures are put back as ones of pairs of macroblocks, as x264 and most others code them."""
    clip, damaged = interlaced(tmp_path / "clip.mp4", "libx264", order * 24), tmp_path / "damaged.mp4"
    corrupt(clip, damaged, Corruption("bscv", seed=3, fraction=0.1, bytes=300, spare_keyframes=True), tmp_path)
    config = RunConfig(preset="ultrafast")
    result = repair_video(Job(damaged, tmp_path / "out.mp4", "video", Path("damaged.mp4")), config, Stages(config))
    assert result.method == "in-loop" and result.frames_filled and result.audit["ok"]
    assert not [note for note in result.audit["notes"] if "field" in note]
    assert orders_of(tmp_path / "out.mp4") == orders_of(clip) == order * 24
    assert "not_mended" not in result.audit["damage"]
