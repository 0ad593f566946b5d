"""H.264 packets, headers and pictures of raw samples."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import encode

from faceinpaint_cli.media import h264_nal
from faceinpaint_cli.media.h264_bits import BitReader, BitsExhausted, BitWriter
from faceinpaint_cli.media.h264_headers import ParameterSets, extradata_units, is_slice, parse_sps
from faceinpaint_cli.media.h264_implied import Placed, course_of, implied_headings
from faceinpaint_cli.media.h264_substitute import Substituter


def make_clip(path: Path, frames: int = 12, **options: str) -> Path:
    pictures = (np.random.default_rng(i).integers(0, 255, (60, 100, 3), np.uint8) for i in range(frames))
    return encode(path, "libx264", pictures, 6, options={"keyint_min": "6", "sc_threshold": "0", **options})


def packets_of(path: Path) -> tuple[list[bytes], bytes]:
    with av.open(str(path)) as container:
        extradata = container.streams.video[0].codec_context.extradata
        return [bytes(p) for p in container.demux(video=0) if p.size], extradata


def test_bits_come_back_as_written() -> None:
    rng, w = random.Random(1), BitWriter()
    wanted = []
    for _ in range(500):
        kind, value = rng.choice(("u", "s", "b")), rng.randrange(1 << rng.randrange(1, 30))
        if kind == "u":
            w.unsigned(value)
        elif kind == "s":
            value = -value if rng.random() < 0.5 else value
            w.signed(value)
        else:
            w.bits(value, 30)
        wanted.append((kind, value))
    r = BitReader(w.to_bytes())
    assert [(k, r.unsigned() if k == "u" else r.signed() if k == "s" else r.bits(30)) for k, _ in wanted] == wanted


def test_a_code_over_the_end_is_an_error() -> None:
    with pytest.raises(BitsExhausted):
        BitReader(b"\0").unsigned()
    with pytest.raises(BitsExhausted):
        BitReader(b"\xff").bits(9)
    with pytest.raises(ValueError):
        BitWriter().bits(4, 2)


def test_emulation_prevention_round_trip() -> None:
    rng = random.Random(2)
    for _ in range(300):
        data = bytes(rng.choice((0, 0, 0, 1, 2, 3, 4, 255)) for _ in range(rng.randrange(1, 40))) + b"\x80"
        escaped = h264_nal.escape(data)
        assert not any(escaped[i : i + 2] == b"\0\0" and escaped[i + 2] <= 2 for i in range(len(escaped) - 2))
        assert h264_nal.unescape(escaped) == data


@pytest.mark.parametrize("prefix", [0, 2, 4])
def test_packets_are_taken_apart_and_put_together(prefix: int) -> None:
    units = [b"\x67\x11\x22", b"\x68\x33", b"\x65" + bytes(range(1, 90))]
    assert [u.data for u in h264_nal.split(h264_nal.join(units, prefix), prefix)] == units


def test_a_length_beyond_the_packet_is_a_cut_unit() -> None:
    packet = h264_nal.join([b"\x65abc", b"\x41defgh"], 4)
    first, second = h264_nal.split(packet[:-2], 4)
    assert first.whole and not second.whole
    assert second.data == b"\x41def"


@pytest.mark.parametrize("options", [
    {}, {"bf": "0"}, {"profile": "baseline"}, {"slices": "2"}, {"weightp": "2", "b-pyramid": "normal", "refs": "4"},
    {"x264-params": "tff=1", "flags": "+ilme+ildct"},
], ids=str)
def test_headers_tell_order_and_type(tmp_path: Path, options: dict[str, str]) -> None:
    packets, extradata = packets_of(make_clip(tmp_path / "c.mp4", **options))
    with av.open(str(tmp_path / "c.mp4")) as container:
        frames = [(int(f.pict_type), f.pts) for f in container.decode(video=0)]
    substituter = Substituter(extradata)
    headings = [substituter.heading(p) for p in packets]
    assert all(h is not None for h in headings)
    assert [h.header.idr for h in headings if h] == [i % 6 == 0 for i in range(12)]
    with av.open(str(tmp_path / "c.mp4")) as container:
        pts = [p.pts for p in container.demux(video=0) if p.size]
    types = {t: {1: "I", 2: "P", 3: "B"}[k] for k, t in frames}
    assert [h.header.type for h in headings if h] == [types[t] for t in pts]
    for first in (0, 6):  # the picture order counts sort as the times do
        group = [(pts[i], headings[i].header.poc) for i in range(first, first + 6)]  # type: ignore[union-attr]
        if headings[0].sps.poc_type == 0:  # type: ignore[union-attr]
            assert [p for _, p in sorted(group)] == sorted(p for _, p in group)
    sps = headings[0].sps  # type: ignore[union-attr]
    left, right, top, bottom = sps.crop
    assert (sps.mb_width * 16 - left - right, sps.mb_height * 16 - top - bottom) == (100, 60)


def test_damaged_headers_never_raise_anything_but_value_error(tmp_path: Path) -> None:
    packets, extradata = packets_of(make_clip(tmp_path / "c.mp4"))
    rng = random.Random(4)
    sets = ParameterSets.from_extradata(extradata)
    prefix = h264_nal.length_size("h264", extradata)
    for packet in packets:
        for unit in h264_nal.split(packet, prefix):
            for _ in range(60):
                data = bytearray(unit.data[:60])
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                cut = bytes(data[: rng.randrange(1, len(data) + 1)])
                if not is_slice(cut):
                    sets.take(cut)
                with contextlib.suppress(ValueError):
                    sets.slice_header(cut)
    for unit in extradata_units(extradata):
        for size in range(1, len(unit)):
            with contextlib.suppress(ValueError):
                parse_sps(unit[:size])


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3", "b_strategy": "0"}], ids=str)
@pytest.mark.parametrize("refresh", [False, True], ids=["within a group", "with a refresh"])
def test_lost_headers_are_implied_by_those_around(tmp_path: Path, options: dict[str, str], refresh: bool) -> None:
    """What comes after a gap finds its references only if what is put into it counts as what was lost did."""
    pictures = (np.random.default_rng(i).integers(0, 255, (60, 100, 3), np.uint8) for i in range(72))
    clip = encode(tmp_path / "c.mp4", "libx264", pictures, 36, options={"keyint_min": "36", "sc_threshold": "0",
                                                                       **options})
    with av.open(str(clip)) as container:
        substituter = Substituter(container.streams.video[0].codec_context.extradata)
        packets = [p for p in container.demux(video=0) if p.size]
        step = int(packets[0].duration)
        headings = [substituter.heading(bytes(p)) for p in packets]
    placed = [Placed(p.pts // step, h.header) for p, h in zip(packets, headings, strict=True)]
    lost = range(30, 44) if refresh else range(10, 27)
    before, after = placed[lost[0] - 1], placed[lost[-1] + 1]
    rate = 1 if options["bf"] == "0" else 2  # picture order counts of x264 are for fields
    times = [placed[i].time for i in lost]
    references = course_of([p if i not in lost else Placed(p.time, None) for i, p in enumerate(placed)], before, after,
                           sorted(times), 1 << headings[0].sps.frame_num_bits)
    told = [r for _, r in references] if references else [placed[i].header.is_reference for i in lost]
    steps = [(t - before.time) * rate for t in times]
    implied = implied_headings(headings[lost[0] - 1], headings[lost[-1] + 1], steps, (after.time - before.time) * rate,
                               told)
    for number, found in zip(lost, implied, strict=True):
        wanted = placed[number].header
        assert found.header.idr == wanted.idr
        if refresh and number < 36:
            continue  # nothing that is left refers to these
        assert (found.header.frame_num, found.header.is_reference) == (wanted.frame_num, wanted.is_reference)
        assert rate == 1 or found.header.poc == wanted.poc
    if not refresh:
        assert references == [(placed[i].time, placed[i].header.is_reference) for i in lost]


def test_as_many_lost_pictures_are_references_as_their_numbers_tell(tmp_path: Path) -> None:
    packets, extradata = packets_of(make_clip(tmp_path / "c.mp4", frames=6, bf="0"))
    substituter = Substituter(extradata)
    first, *_, last = (substituter.heading(p) for p in packets[:4])
    assert [h.header.is_reference for h in implied_headings(first, last, [1] * 8, 9, 0.25)] == [
        False, False, False, True, False, False, False, True]  # two of them, and not two and sixteen
    assert all(h.header.is_reference for h in implied_headings(first, None, [1, 2], 0))
