"""Tiny video files made with PyAV, for the tests: every property that a repair must keep can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.optical_flow import Planes
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_reader import with_data

TEXT = "1\n00:00:00,100 --> 00:00:00,400\nhello\n\n2\n00:00:00,500 --> 00:00:00,900\nworld\n"


@dataclass
class Clip:
    """What `make_clip` writes. `times` are the frames' pts in `time_base` (constant `rate` if None)."""

    codec: str = "libx264"
    size: tuple[int, int] = (96, 80)
    frames: int = 24
    rate: int = 25
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    gop: int = 8
    times: Sequence[int] | None = None
    time_base: Fraction | None = None
    audio: str | None = "aac"
    audio_tracks: int = 1
    subtitles: bool = False
    chapters: bool = False
    rotation: int = 0
    aspect: Fraction | None = None
    colour: tuple[int, int, int, int] | None = None  # primaries, transfer, matrix, range
    metadata: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)


def picture(number: int, width: int, height: int) -> np.ndarray:
    """HWC uint8 RGB: a smooth ground, a patch that moves with the number, and a little fixed noise."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y + 3 * number) % 256], -1).astype(np.uint8)
    left = 4 + number * 2 % max(1, width - 20)
    image[height // 4 : height // 4 + 12, left : left + 12] = (230, 60, 40)
    noise = np.random.default_rng(7).integers(0, 12, (height, width, 1), dtype=np.uint8)
    return cv2.blur(image, (3, 3)) // 2 + noise + 60


def encode(path: Path, codec: str, pictures: Iterable[np.ndarray], gop: int = 12, pixels: str = "yuv420p",
           options: Mapping[str, str] | None = None) -> Path:
    """Write grey (HW) or RGB (HWC) uint8 pictures as a clip of 25 a second without sound; `gop` pictures a group."""
    with av.open(str(path), "w") as out:
        stream: av.VideoStream | None = None
        for number, image in enumerate(pictures):
            rgb = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image
            if stream is None:
                stream = out.add_stream(codec, rate=25, options=dict(options or {}))
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt, stream.codec_context.gop_size = pixels, gop
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb)).reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        assert stream is not None
        out.mux(stream.encode())
    return path


def decoded(path: Path, whole: bool = False) -> dict[int, Planes]:
    """Planes by time of all pictures that a decoder gives, damaged ones too; `whole`: without cropping."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = tolerant.open_decoder(stream, threads=False, whole=whole)
        packets = (p for p in container.demux(stream) if p.size)
        return {f.pts: planes_of(f) for _, frames, _ in tolerant.decode(context, packets) for f in frames}


def scene(index: int, height: int, width: int) -> np.ndarray:
    """A smooth texture that pans, with a disc that moves over it on a curve; HW uint8."""
    rng = np.random.default_rng(5)
    texture = cv2.resize(rng.integers(40, 215, (24, 32)).astype(np.float32), (width * 2, height * 2),
                         interpolation=cv2.INTER_CUBIC)
    x = 20 + 1.5 * index
    image = texture[10 : 10 + height, int(x) : int(x) + width].copy()
    center = (int(width * (0.5 + 0.25 * np.sin(index / 9))), int(height * (0.5 + 0.2 * np.cos(index / 7))))
    cv2.circle(image, center, height // 5, 230.0, -1)
    cv2.circle(image, center, height // 9, 60.0, -1)
    return image.clip(0, 255).astype(np.uint8)


def make_clip(path: Path, clip: Clip | None = None, **changes: Any) -> Path:
    """Write a clip and return its path."""
    clip = clip or Clip(**changes)
    width, height = clip.size
    with av.open(str(path), "w", options=clip.muxer) as out:
        out.metadata.update(clip.metadata)
        video: av.VideoStream = out.add_stream(clip.codec, rate=clip.rate)
        video.width, video.height, video.pix_fmt = width, height, clip.pixel_format
        video.codec_context.options = {"threads": "1", **clip.options}
        video.codec_context.gop_size = clip.gop
        if clip.time_base:
            video.codec_context.time_base = video.time_base = clip.time_base
        if clip.aspect:
            video.codec_context.sample_aspect_ratio = clip.aspect
        if clip.colour:
            c = video.codec_context
            c.color_primaries, c.color_trc, c.colorspace, c.color_range = clip.colour
        if clip.rotation:
            video.set_display_rotation(clip.rotation)
        tracks = [out.add_stream(clip.audio, rate=48000) for _ in range(clip.audio_tracks)] if clip.audio else []
        for number, track in enumerate(tracks):
            track.metadata["language"] = ("fra", "deu", "eng")[number % 3]
        if clip.chapters:
            out.set_chapters([{"id": i, "start": i * 300, "end": i * 300 + 300, "time_base": Fraction(1, 1000),
                               "metadata": {"title": f"part {i}"}} for i in range(2)])
        texts = _subtitles(path) if clip.subtitles else None
        if texts is not None:
            subtitle = out.add_stream_from_template(texts.streams[0])
        ready = [_encoded_audio(track, clip, number) for number, track in enumerate(tracks)]
        for number in range(clip.frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame = frame.reformat(format=clip.pixel_format)
            frame.pts = clip.times[number] if clip.times else number
            frame.time_base = clip.time_base or Fraction(1, clip.rate)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for packets in ready:
            out.mux(packets)
        if texts is not None:
            for packet in texts.demux():
                if packet.size:
                    packet.stream = subtitle
                    out.mux(packet)
            texts.close()
    return path


def _encoded_audio(track: av.AudioStream, clip: Clip, number: int) -> list[av.Packet]:
    seconds = clip.frames / clip.rate
    n = int(seconds * 48000)
    tone = (np.sin(np.arange(n) * 2 * np.pi * (330 + 110 * number) / 48000) * 8000).astype(np.int16)
    packets = []
    resampler = av.AudioResampler(format=track.format.name, layout="mono", rate=48000, frame_size=1024)
    track.layout = "mono"
    frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
    frame.rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    for part in resampler.resample(frame) + resampler.resample(None):
        packets += track.encode(part)
    return packets + track.encode(None)


def _subtitles(path: Path) -> av.container.InputContainer:
    text = path.with_suffix(".srt")
    text.write_text(TEXT, encoding="utf-8")
    return av.open(str(text))


def make_mask_video(path: Path, masks: Sequence[np.ndarray]) -> Path:
    """A lossless gray video of masks (HW bool)."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width = masks[0].shape
        stream.pix_fmt = "gray"
        for number, mask in enumerate(masks):
            frame = av.VideoFrame.from_ndarray(mask.astype(np.uint8) * 255, format="gray")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def masks_for(frames: int, size: tuple[int, int], damaged: Sequence[int]) -> list[np.ndarray]:
    """Masks of a video, empty but for the numbers in `damaged`, where a box of a quarter of the sides moves."""
    width, height = size
    masks = [np.zeros((height, width), bool) for _ in range(frames)]
    for number in damaged:
        top, left = height // 4 + number % 5, width // 3 + number % 7
        masks[number][top : top + height // 4, left : left + width // 4] = True
    return masks


@dataclass
class Read:
    """A video read back: frames with their times in seconds and planes, packets of each other stream."""

    times: list[Fraction]
    planes: list[list[np.ndarray]]
    packets: dict[int, list[bytes]]
    packet_times: dict[int, list[Fraction | None]]
    rotation: int


def read_back(path: Path) -> Read:
    """Decode the first video stream and collect the other streams' packets, independently of the code under test."""
    times, planes, rotation = [], [], 0
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        number, time_base = video.index, video.time_base
        for frame in container.decode(video):
            times.append(frame.pts * time_base)
            deep = max(c.bits for c in frame.format.components) > 8
            planes.append([_plane(p, deep) for p in frame.planes])
            rotation = frame.rotation
    packets: dict[int, list[bytes]] = {}
    packet_times: dict[int, list[Fraction | None]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.stream_index != number:
                packets.setdefault(packet.stream_index, []).append(bytes(packet))
                time = None if packet.pts is None else packet.pts * packet.time_base
                packet_times.setdefault(packet.stream_index, []).append(time)
    return Read(times, planes, packets, packet_times, rotation)


def _plane(plane: av.video.plane.VideoPlane, deep: bool) -> np.ndarray:
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return lines.view(np.uint16 if deep else np.uint8)[:, : plane.width].copy()


def video_packets(path: Path) -> list[bytes]:
    """The bytes of the first video stream's packets."""
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]


def remuxed(clip: Path, target: Path, edit: Callable[[int, bytes], bytes | None]) -> Path:
    """The clip's video packets in another file, each as `edit` makes it of its number and bytes; None leaves it out."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            data = edit(number, bytes(packet))
            if data is not None:
                packet = with_data(packet, data)
                packet.stream = copy
                out.mux(packet)
    return target
