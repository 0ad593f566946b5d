"""The audit must find what is wrong: each test spoils one thing in a file that is right otherwise."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from media_factory import make_clip

from faceinpaint_cli.media.audit import AuditError, Findings, audit, require
from faceinpaint_cli.media.smart_render import RenderPlan, plan_render
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_writer import Written, write_video


def rewritten(source: Path, target: Path, change) -> Path:
    """The same packets, each handed to `change(packet, stream type, number)`, which returns it, another, or None."""
    with av.open(str(source)) as a, av.open(str(target), "w") as b:
        streams = {s.index: b.add_stream_from_template(s, opaque=True) for s in a.streams}
        counts = dict.fromkeys(streams, 0)
        for packet in a.demux():
            if not packet.size:
                continue
            index = packet.stream_index
            kind = a.streams[index].type
            packet = change(packet, kind, counts[index])
            counts[index] += 1
            if packet is not None:
                packet.stream = streams[index]
                b.mux(packet)
    return target


def later(packet, by):
    packet.pts += by
    packet.dts += by
    return packet


def other_bytes(packet):
    data = bytearray(bytes(packet))
    data[len(data) // 2] ^= 0xFF
    copy = av.Packet(bytes(data))
    copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    copy.is_keyframe = packet.is_keyframe
    return copy


SPOILS = {
    "nothing": (lambda p, kind, n: p, None),
    "a frame is missing": (lambda p, kind, n: None if kind == "video" and n == 23 else p, "23 frames instead of 24"),
    "a frame is late": (lambda p, kind, n: later(p, 100) if kind == "video" and n == 23 else p, "1 frames at another"),
    "a copied frame differs": (lambda p, kind, n: other_bytes(p) if kind == "video" and n == 20 else p,
                               "decode to other samples"),
    "sound is missing": (lambda p, kind, n: None if kind == "audio" and n > 40 else p, "instead of 46"),
    "sound is late": (lambda p, kind, n: later(p, 4800) if kind == "audio" else p, "all packets +0.099 s"),
    "sound differs": (lambda p, kind, n: other_bytes(p) if kind == "audio" and n == 5 else p, "bytes of its packets"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_wrong_is_found(spoil, tmp_path):
    source = index_video(make_clip(tmp_path / "a.mp4", options={"bf": "0"}))
    assert len(source.groups) == 3
    change, said = SPOILS[spoil]
    output = rewritten(source.path, tmp_path / "b.mp4", change)
    # As if the first group had been encoded anew and the others copied.
    plan = RenderPlan(True, (source.groups[0].frames,), source.groups[1:])
    found = audit(source, output, plan, Written(frames=list(range(24)), copied=[1]))
    if said is None:
        assert found.problems == [] and found.facts["frames_copied"] == 16
        require(found, output)
    else:
        assert any(said in p for p in found.problems), found.problems
        with pytest.raises(AuditError, match="nothing was written"):
            require(found, output)


@pytest.mark.parametrize(("render", "name", "advice"), [
    ("smart", "b.mp4", "--render full, or an --output that"), ("full", "b.mp4", "an --output that ends in .mkv"),
    ("full", "b.mkv", "another --codec"), ("smart", "b.mkv", "--render full, or another --codec")])
def test_the_advice_is_none_that_was_followed_already(render, name, advice):
    with pytest.raises(AuditError, match=f"nothing was written; try {advice}"):
        require(Findings(["2 frames instead of 3"], facts={"render": render}), Path(name))


@pytest.mark.parametrize(("changes", "said"), [
    ({"rotation": 90}, "rotation is 90"), ({"aspect": Fraction(4, 3)}, "pixel aspect is 4/3"),
    ({"colour": (1, 1, 1, 1)}, "color_primaries is 1"), ({"chapters": True}, "chapters are"),
])
def test_other_facts_of_the_picture_are_found(changes, said, tmp_path):
    source = index_video(make_clip(tmp_path / "a.mp4"))
    other = make_clip(tmp_path / "b.mp4", **changes)
    found = audit(source, other, RenderPlan.full(source), Written(frames=list(range(24)), copied=[1]))
    assert any(said in p for p in found.problems), found.problems


def test_a_plain_copy_compares_the_video_packets_too(tmp_path):
    source = index_video(make_clip(tmp_path / "a.mp4"))
    output = tmp_path / "b.mkv"
    written = write_video(source, output, "matroska")
    assert audit(source, output, None, written).problems == []
    spoiled = rewritten(output, tmp_path / "c.mkv", SPOILS["a copied frame differs"][0])
    assert audit(source, spoiled, None, written).problems


def test_times_of_sound_that_a_container_rounds_are_no_measure_for_those_of_pictures(tmp_path):
    source = index_video(make_clip(tmp_path / "a.ts", audio="mp2", frames=32))
    written = write_video(source, tmp_path / "b.mp4", "mp4")
    assert audit(source, tmp_path / "b.mp4", None, written).problems == []


def test_damaged_sources_may_be_cut_differently(tmp_path):
    source = index_video(make_clip(tmp_path / "a.mp4"))
    output = rewritten(source.path, tmp_path / "b.mp4", SPOILS["sound is missing"][0])
    plan = RenderPlan.full(source)
    found = audit(source, output, plan, Written(frames=list(range(24)), copied=[1]), damaged=True)
    assert not found.problems and "packets instead of" in found.notes[0]


def cut_anew(source: Path, target: Path, start: int = 0, stop: int | None = None, late: int = 0) -> Path:
    """The same pictures, and samples `start` to `stop` of the sound (PCM of two bytes), in packets of another size."""
    with av.open(str(source)) as a, av.open(str(target), "w") as b:
        streams = {s.index: b.add_stream_from_template(s, opaque=True) for s in a.streams}
        samples = b""
        for packet in a.demux():
            if packet.size and packet.stream_index == 1:
                samples += bytes(packet)
            elif packet.size:
                packet.stream = streams[0]
                b.mux(packet)
        samples = samples[2 * start : None if stop is None else 2 * stop]
        for at in range(0, len(samples), 700):
            packet = av.Packet(samples[at : at + 700])
            packet.pts = packet.dts = at // 2 + late
            packet.duration, packet.time_base, packet.stream = packet.size // 2, Fraction(1, 48000), streams[1]
            b.mux(packet)
    return target


@pytest.mark.parametrize(("change", "said"), [
    ({}, None), ({"stop": 40000}, "the bytes of its packets changed"), ({"late": 4800}, "all packets +0.100 s"),
])
def test_samples_may_be_cut_into_other_packets(change, said, tmp_path):
    source = index_video(make_clip(tmp_path / "a.mov", audio="pcm_s16le"))
    output = cut_anew(source.path, tmp_path / "b.mov", **change)
    with av.open(str(source.path)) as a, av.open(str(output)) as b:
        assert sum(1 for _ in a.demux(a.streams[1])) != sum(1 for _ in b.demux(b.streams[1]))
    found = audit(source, output, RenderPlan.full(source), Written(frames=list(range(24)), copied=[1]))
    assert found.problems == [] if said is None else any(said in p for p in found.problems), found.problems


def test_plan_says_why_it_is_full(tmp_path):
    from faceinpaint_cli.config import RunConfig
    from faceinpaint_cli.media.encoders import choose_encoder

    source = index_video(make_clip(tmp_path / "a.mp4"))
    encoder = choose_encoder(RunConfig(), source, "mp4", tmp_path / "b.mp4")
    assert encoder.name == "libx264" and encoder.pixel_format == "yuv420p"
    one = plan_render(source, [False, True, False], encoder, "mp4", True)
    assert one.smart and one.segments == ((8, 16),) and [g.frames for g in one.copied] == [(0, 8), (16, 24)]
    assert plan_render(source, [True] * 3, encoder, "mp4", True).why_full == "every group of frames changes"
    assert plan_render(source, [False, True, False], encoder, "mp4", False).why_full == ""
    other = replace(encoder, codec="ffv1")
    assert "codec changes" in plan_render(source, [False, True, False], other, "mp4", True).why_full
