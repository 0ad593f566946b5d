"""Damage to coded video, made on purpose and seeded: what transmission and failing disks do to a file.

Kinds:
  bscv  in a fraction of the pictures of each group, bytes are deleted from a slice's payload (the protocol of
        the BSCV benchmark, NeurIPS 2023: its S of 4096 counts hex digits, so 2048 bytes)
  zero  blocks of the file are zeroed, as by a failing disk
  flip  single bits are flipped
  drop  whole packets are missing
  ts    188-byte packets of a transport stream are missing, singly or in bursts
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import av

from faceinpaint_cli.errors import InputError, OutputError, UsageError
from faceinpaint_cli.media import h264_nal as nal
from faceinpaint_cli.media.turned_bits import turned
from faceinpaint_cli.media.video_index import location
from faceinpaint_cli.media.video_reader import with_data

KINDS = ("bscv", "zero", "flip", "drop", "ts")
TS_PACKET = 188


@dataclass(frozen=True)
class Branch:
    """`fraction` P of a group's pictures lose `count` bytes at relative position `position` L of a slice."""

    fraction: float
    position: float
    count: int


BRANCHES = {
    "base": Branch(1 / 16, 0.4, 2048),
    "small": Branch(1 / 16, 0.4, 1024),
    "early": Branch(1 / 16, 0.2, 2048),
    "double": Branch(2 / 16, 0.4, 2048),
    "late": Branch(1 / 16, 0.8, 2048),
    "many": Branch(4 / 16, 0.4, 2048),
    "large": Branch(1 / 16, 0.4, 4096),
}
"""The benchmark's seven settings, by name."""


@dataclass(frozen=True)
class Corruption:
    """What to do to a file; equal settings give equal files.

    `fraction` is of the pictures of a group (bscv, drop), `count` how many blocks, bits or bursts (zero,
    flip, ts), `block` bytes of a zeroed block, `burst` transport packets lost in a row. `spare_index` keeps
    what lies before the first and after the last coded picture (the container's headers and index),
    `spare_keyframes` keeps pictures that start a group (bscv, drop).
    """

    kind: str
    seed: int = 0
    fraction: float = BRANCHES["base"].fraction
    position: float = BRANCHES["base"].position
    bytes: int = BRANCHES["base"].count
    count: int = 8
    block: int = 512
    burst: int = 1
    spare_index: bool = True
    spare_keyframes: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"--kind must be one of {', '.join(KINDS)} for a video, not {self.kind!r}")
        if not 0 < self.fraction <= 1:
            raise UsageError(f"--fraction must be above 0 and at most 1, not {self.fraction}")
        if not 0 <= self.position < 1:
            raise UsageError(f"--position must be from 0 to below 1, not {self.position}")
        if min(self.bytes, self.count, self.block, self.burst) < 1:
            raise UsageError("--bytes, --count, --block and --burst must be at least 1")


@dataclass(frozen=True)
class Hit:
    """One place of damage: the coded picture's number in decoding order where known, and what was done."""

    picture: int | None
    what: str


@dataclass(frozen=True)
class Corrupted:
    """What `corrupt` wrote: `reference` is the undamaged file with the same timestamps as the damaged one
    (the source where the damage is done to the file itself, else a copy in the scratch folder)."""

    damaged: Path
    reference: Path
    hits: list[Hit] = field(default_factory=list)


def corrupt(source: Path, target: Path, how: Corruption, scratch: Path) -> Corrupted:
    """Write a damaged copy of `source` to `target`.

    `scratch` is a folder for the reference: packets written to a container may get other timestamps, so the
    undamaged ones are written the same way.
    Raises InputError where `source` has no video, OutputError where the container cannot be written.
    """
    rng = random.Random(f"{how.kind}-{how.seed}")
    if how.kind == "zero":
        return Corrupted(target, source, _zero_blocks(source, target, how, rng))
    reference = scratch / ("reference" + (".ts" if how.kind == "ts" else target.suffix))
    if how.kind == "ts" and _is_transport_stream(source):
        reference = source
    else:
        _remux(source, reference, lambda index, data, keyframe: data)
    if how.kind == "ts":
        return Corrupted(target, reference, _lose_ts_packets(reference, target, how, rng))
    packets = _survey(source)
    if how.kind == "flip":
        return Corrupted(target, reference, _flip_bits(source, target, packets, how, rng))
    hurt = _choose(packets, how, rng)
    edit = _delete_bytes(source, how, rng, hurt) if how.kind == "bscv" else _drop(hurt)
    return Corrupted(target, reference, _remux(source, target, edit))


@dataclass(frozen=True)
class _Packet:
    position: int
    size: int
    keyframe: bool


def _survey(source: Path) -> list[_Packet]:
    with _open(source) as container:
        stream = _video(container, source)
        return [_Packet(p.pos if p.pos is not None else -1, p.size, p.is_keyframe)
                for p in container.demux(stream) if p.size]


def _choose(packets: list[_Packet], how: Corruption, rng: random.Random) -> set[int]:
    """Pictures to damage: the fraction of each group, rounded at random so that the mean is right."""
    starts = [i for i, p in enumerate(packets) if p.keyframe or i == 0] + [len(packets)]
    chosen: set[int] = set()
    for first, last in pairwise(starts):
        candidates = range(first + 1 if how.spare_keyframes else first, last)
        wanted = math.floor(how.fraction * (last - first) + rng.random())
        chosen.update(rng.sample(candidates, min(wanted, len(candidates))))
    if not chosen and packets:
        chosen.add(rng.randrange(1 if how.spare_keyframes and len(packets) > 1 else 0, len(packets)))
    return chosen


Edit = Callable[[int, bytes, bool], "bytes | None"]
"""(number of the picture, its packet, keyframe) to the packet to write, None for none."""


def _drop(chosen: set[int]) -> Edit:
    return lambda index, data, keyframe: None if index in chosen else data


def packet_damage(stream: av.VideoStream, how: Corruption, rng: random.Random) -> Callable[[bytes], bytes]:
    """What kind `bscv` or `flip` does to the data of one coded picture of `stream`."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    prefix = nal.length_size(codec, context.extradata) if codec in ("h264", "hevc") else 0

    def cut(data: bytes, header: int) -> bytes:
        at = max(header, int(len(data) * how.position))
        return data[:at] + data[max(at, min(at + how.bytes, len(data) - header)) :]

    def deleted(data: bytes) -> bytes:
        if codec == "av1":
            return _with_shorter_unit(data, cut)
        if codec not in ("h264", "hevc"):
            return cut(data, 8)
        units = [unit.data for unit in nal.split(data, prefix)]
        slices = [i for i, unit in enumerate(units) if _is_slice(unit, codec)]
        if slices:
            hit = rng.choice(slices)
            units[hit] = cut(units[hit], 8)
        return nal.join(units, prefix)

    def flipped(data: bytes) -> bytes:
        return _with_flips(data, rng.sample(range(len(data) * 8), min(how.count, len(data) * 8)))

    return {"bscv": deleted, "flip": flipped}[how.kind]


def _delete_bytes(source: Path, how: Corruption, rng: random.Random, chosen: set[int]) -> Edit:
    with _open(source) as container:
        damage = packet_damage(_video(container, source), how, rng)
    return lambda index, data, keyframe: damage(data) if index in chosen else data


def _with_shorter_unit(data: bytes, cut: Callable[[bytes, int], bytes]) -> bytes:
    """An AV1 packet with its longest unit cut and that unit's size set right (AV1 specification, 5.3): containers
    refuse packets whose units do not add up."""
    spans: list[tuple[int, int, int]] = []  # where the size stands, where the payload begins and ends
    place = 0
    while place < len(data) and data[place] & 2:
        at = place + 1 + (data[place] >> 2 & 1)
        size, begin = 0, at
        while True:
            size |= (data[begin] & 127) << 7 * (begin - at)
            begin += 1
            if not data[begin - 1] & 128:
                break
        place = begin + size
        spans.append((at, begin, place))
    if not spans:
        return cut(data, 8)
    at, begin, end = max(spans, key=lambda span: span[2] - span[1])
    payload = cut(data[begin:end], 8)
    size, coded = len(payload), b""
    while size > 127:
        coded, size = coded + bytes([size & 127 | 128]), size >> 7
    return data[:at] + coded + bytes([size]) + payload + data[end:]


def _is_slice(unit: bytes, codec: str) -> bool:
    return 1 <= unit[0] & 31 <= 5 if codec == "h264" else unit[0] >> 1 & 63 <= 31


def _flip_bits(
    source: Path, target: Path, packets: list[_Packet], how: Corruption, rng: random.Random
) -> list[Hit]:
    """Flip bits inside the coded pictures, chosen evenly over their bytes, by way of the container."""
    total = sum(p.size for p in packets)
    offsets = sorted(rng.sample(range(total * 8), min(how.count, total * 8)))
    flips: dict[int, list[int]] = {}
    start, number = 0, 0
    for offset in offsets:
        while offset >= (start + packets[number].size) * 8:
            start += packets[number].size
            number += 1
        flips.setdefault(number, []).append(offset - start * 8)

    def edit(index: int, data: bytes, keyframe: bool) -> bytes:
        return _with_flips(data, flips.get(index, ()))

    return _remux(source, target, edit)


def _with_flips(data: bytes, bits: Iterable[int]) -> bytes:
    """The data with bits turned, counted from the highest of the first byte."""
    return turned(data, ((bit >> 3, 7 - (bit & 7)) for bit in bits))


def _zero_blocks(source: Path, target: Path, how: Corruption, rng: random.Random) -> list[Hit]:
    """Zero aligned blocks of the file itself; with `spare_index` only between first and last picture."""
    size = source.stat().st_size
    first, last = 0, size
    if how.spare_index:
        placed = [p for p in _survey(source) if p.position >= 0]
        if placed:
            first = min(p.position for p in placed)
            last = max(p.position + p.size for p in placed)
    blocks = range(math.ceil(first / how.block), last // how.block)
    chosen = sorted(rng.sample(blocks, min(how.count, len(blocks))))
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for block in chosen:
            file.seek(block * how.block)
            file.write(bytes(how.block))
    return [Hit(None, f"{how.block} bytes zeroed at {block * how.block}") for block in chosen]


def _lose_ts_packets(source: Path, target: Path, how: Corruption, rng: random.Random) -> list[Hit]:
    data = source.read_bytes()
    count = len(data) // TS_PACKET
    spared = _table_packets(data) if how.spare_index else set()
    starts = [i for i in range(count) if i not in spared]
    lost: set[int] = set()
    for start in sorted(rng.sample(starts, min(how.count, len(starts)))):
        lost.update(i for i in range(start, min(start + how.burst, count)) if i not in spared)
    kept = (data[i * TS_PACKET : (i + 1) * TS_PACKET] for i in range(count) if i not in lost)
    target.write_bytes(b"".join(kept))
    return [Hit(None, f"transport packet {i} lost") for i in sorted(lost)]


def _table_packets(data: bytes) -> set[int]:
    """Transport packets that carry tables (PAT, its PMTs, SDT): ISO/IEC 13818-1, 2.4.3 and 2.4.4."""
    tables, found = {0, 17}, set()
    for i in range(len(data) // TS_PACKET):
        packet = data[i * TS_PACKET : (i + 1) * TS_PACKET]
        pid = (packet[1] & 31) << 8 | packet[2]
        if pid == 0 and packet[1] & 0x40 and len(packet) > 17:
            body = packet[5 + packet[4] :] if not packet[3] & 0x20 else packet[6 + packet[4] + packet[5] :]
            length = (body[1] & 15) << 8 | body[2] if len(body) > 2 else 0
            for at in range(8, min(length - 1, len(body) - 3), 4):
                tables.add((body[at + 2] & 31) << 8 | body[at + 3])
        if pid in tables:
            found.add(i)
    return found


def _remux(source: Path, target: Path, edit: Edit) -> list[Hit]:
    """Copy all video, audio and subtitle streams; the first video stream's packets go through `edit`."""
    hits: list[Hit] = []
    with _open(source) as container:
        stream = _video(container, source)
        try:
            with av.open(location(target), "w") as out:
                copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in container.streams
                          if s.type in ("video", "audio", "subtitle")}
                out.metadata.update(container.metadata)
                opening = _in_band_headers(stream, target)
                for packet in _edited(container, stream, edit, hits):
                    if packet.stream_index == stream.index and opening and packet.is_keyframe:
                        packet = with_data(packet, opening + bytes(packet))
                    if packet.stream_index in copies:
                        packet.stream = copies[packet.stream_index]
                        out.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"{target}: cannot be written as {target.suffix or 'a file without suffix'} "
                              f"({error}); give -o another suffix, such as .mkv") from error
    return hits


def _in_band_headers(stream: av.VideoStream, target: Path) -> bytes:
    """Headers that the container does not carry: in a transport stream MPEG-4 Part 2 has them in band."""
    if target.suffix == ".ts" and stream.codec_context.name == "mpeg4":
        return stream.codec_context.extradata or b""
    return b""


def _edited(
    container: av.container.InputContainer, stream: av.VideoStream, edit: Edit, hits: list[Hit]
) -> Iterator[av.Packet]:
    index = -1
    for packet in container.demux():
        if packet.dts is None and not packet.size:
            continue
        if packet.stream_index == stream.index:
            index += 1
            before = bytes(packet)
            after = edit(index, before, packet.is_keyframe)
            if after is None:
                hits.append(Hit(index, "packet dropped"))
                continue
            if after != before:
                lost = len(before) - len(after)
                hits.append(Hit(index, f"{lost} bytes deleted" if lost else "bits flipped"))
                packet = with_data(packet, after)
        yield packet


def _open(path: Path) -> av.container.InputContainer:
    try:
        return av.open(location(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: expected a video, cannot be opened ({error})") from error


def _video(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise InputError(f"{path}: expected a video, has no video stream")
    return container.streams.video[0]


def _is_transport_stream(path: Path) -> bool:
    with _open(path) as container:
        return "mpegts" in container.format.name.split(",")
