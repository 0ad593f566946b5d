"""Transport streams whose packets come twice, change places or stand between other bytes, and joined ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from media_factory import make_clip, read_back

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.damage import bit_trials
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.media.ts_programs import has_times_of_arrival
from faceinpaint_cli.media.ts_tangles import copy_untangled, find_tangles

PACKET, DATAGRAM = 188, 7
VIDEO, SOUND = 256, 257
Packets = list[bytes]


def packets_of(path: Path) -> Packets:
    data = path.read_bytes()
    return [data[i : i + PACKET] for i in range(0, len(data), PACKET)]


def pid(packet: bytes) -> int:
    return (packet[1] & 31) << 8 | packet[2]


def lossy(packets: Packets) -> Packets:
    """Without a packet from the middle of a later picture."""
    first = [i for i, p in enumerate(packets) if pid(p) == VIDEO and p[1] & 0x40][4]
    hit = next(i for i in range(first, len(packets)) if pid(packets[i]) == pid(packets[i - 1]) == VIDEO
               and not packets[i][1] & 0x40)
    return packets[:hit] + packets[hit + 1 :]


def twice(packets: Packets) -> Packets:
    return [q for i, p in enumerate(packets) for q in ([p, p] if i % 23 == 5 else [p])]


def datagrams_twice(packets: Packets) -> Packets:
    parts = [packets[i : i + DATAGRAM] for i in range(0, len(packets), DATAGRAM)]
    return [p for i, part in enumerate(parts) for p in ([*part, *part] if i % 5 == 2 else part)]


def out_of_order(packets: Packets) -> Packets:
    parts = [packets[i : i + DATAGRAM] for i in range(0, len(packets), DATAGRAM)]
    for i in range(3, len(parts) - 2, 6):
        parts[i], parts[i + 1] = parts[i + 1], parts[i]
    return [p for part in parts for p in part]


def between_other_bytes(packets: Packets) -> Packets:
    rng = random.Random(2)
    return [p + rng.randbytes(rng.randrange(1, 300)) if i % 31 == 7 else p for i, p in enumerate(packets)]


def without_marks(packets: Packets) -> Packets:
    return [b"\0" + p[1:] if i % 29 == 11 else p for i, p in enumerate(packets)]


TANGLES = [twice, datagrams_twice, out_of_order, between_other_bytes, without_marks]


@pytest.mark.parametrize("tangle", TANGLES, ids=lambda t: t.__name__)
def test_a_tangled_stream_is_what_it_was(tangle: Callable[[Packets], Packets], tmp_path: Path) -> None:
    clip, tangled = make_clip(tmp_path / "clip.ts", audio="aac"), tmp_path / "tangled.ts"
    packets = packets_of(clip)
    tangled.write_bytes(b"".join(tangle(packets)))
    result = inpaint_video(tangled, tmp_path / "out.ts")
    assert result.method == "copy" and not result.frames_damaged
    out = packets_of(tmp_path / "out.ts")
    for stream in (VIDEO, SOUND):
        assert [p for p in out if pid(p) == stream] == [p for p in packets if pid(p) == stream]


@pytest.mark.parametrize("packing", [192, 204])
def test_packets_with_more_around_them_are_untangled_too(packing: int, tmp_path: Path) -> None:
    clip, tangled = make_clip(tmp_path / "clip.ts"), tmp_path / "tangled.ts"
    lead, trail = (4, 0) if packing == 192 else (0, 16)
    tangled.write_bytes(b"".join(bytes(lead) + p + bytes(trail) for p in twice(packets_of(clip))))
    found = find_tangles(tangled)
    assert found is not None
    copy_untangled(tangled, tmp_path / "out.ts", found)
    assert has_times_of_arrival(tmp_path / "out.ts") == (packing == 192)
    assert read_back(tmp_path / "out.ts").times == read_back(clip).times


def test_whole_streams_have_no_tangles(tmp_path: Path) -> None:
    for name in ("clip.ts", "clip.mp4", "clip.mkv"):
        assert find_tangles(make_clip(tmp_path / name, audio="aac")) is None
    packets = packets_of(tmp_path / "clip.ts")
    (tmp_path / "lost.ts").write_bytes(b"".join(packets[:20] + packets[29:40] + packets[44:]))
    assert find_tangles(tmp_path / "lost.ts") is None


def test_damage_in_a_tangled_stream_is_mended(tmp_path: Path) -> None:
    clip, tangled = make_clip(tmp_path / "clip.ts", audio="aac"), tmp_path / "tangled.ts"
    packets = packets_of(clip)
    tangled.write_bytes(b"".join(datagrams_twice(lossy(packets))))
    result = inpaint_video(tangled, tmp_path / "out.ts")
    assert result.audit["ok"] and result.method == "in-loop" and 0 < result.frames_damaged < result.frames
    assert read_back(tmp_path / "out.ts").times == read_back(clip).times
    assert read_back(tmp_path / "out.ts").packets == read_back(clip).packets


def test_joined_recordings_go_on_where_one_is_damaged_and_are_copied_where_none_is(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", audio="aac")
    joined, packets = tmp_path / "joined.ts", packets_of(clip)
    joined.write_bytes(b"".join(packets + packets))
    inpaint_video(joined, tmp_path / "copy.ts")
    assert (tmp_path / "copy.ts").read_bytes() == joined.read_bytes()
    joined.write_bytes(b"".join(packets + lossy(packets)))
    result = inpaint_video(joined, tmp_path / "out.ts")
    before, after = read_back(clip), read_back(tmp_path / "out.ts")
    assert result.frames == len(after.times) == 2 * len(before.times)
    step = before.times[1] - before.times[0]
    assert all(abs(b - a - step) < 0.001 for a, b in zip(after.times, after.times[1:], strict=False))
    assert after.packets[1] == before.packets[1] * 2
    late = after.times[len(before.times)] - before.times[0]  # sound begins as long before the pictures as it did
    sound, again = (times[1] for times in (before.packet_times, after.packet_times))
    assert abs(again[len(sound) + 5] - sound[5] - late) < 0.001


def test_blu_rays_packets_stay_what_they_are(tmp_path: Path) -> None:
    clip, source = make_clip(tmp_path / "clip.ts"), tmp_path / "source.m2ts"
    source.write_bytes(b"".join(bytes(4) + p for p in lossy(packets_of(clip))))
    assert inpaint_video(source, tmp_path / "out.m2ts").audit["ok"]
    assert has_times_of_arrival(tmp_path / "out.m2ts")
    assert read_back(tmp_path / "out.m2ts").times == read_back(clip).times


def test_sound_that_is_none_any_more_does_not_end_the_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip, damaged = make_clip(tmp_path / "clip.ts", audio="aac"), tmp_path / "damaged.ts"
    packets = lossy(packets_of(clip))
    sound = [i for i, p in enumerate(packets) if pid(p) == SOUND and p[1] & 0x40][1]
    at = packets[sound].index(b"\xff\xf1")
    packets[sound] = packets[sound][:at] + b"\0\0" + packets[sound][at + 2 :]
    damaged.write_bytes(b"".join(packets))
    result = inpaint_video(damaged, tmp_path / "out.ts")
    assert result.audit["ok"] and result.frames == len(read_back(clip).times)


def test_no_bit_is_sought_where_a_transport_stream_lacks_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, damaged = make_clip(tmp_path / "clip.ts"), tmp_path / "damaged.ts"
    damaged.write_bytes(b"".join(lossy(packets_of(clip))))
    monkeypatch.setattr(bit_trials._Trials, "wrong_bits", lambda self: ((20, 1),))
    found = diagnose(damaged)
    assert found.damaged and not bit_trials.find_wrong_bits(found)
