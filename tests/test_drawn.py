"""Lost pictures that no other shows: drawn as a still picture is."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, scene
from PIL import Image

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.faces.detector import FaceDetector, overlap
from faceinpaint_cli.media.optical_flow import Planes
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_reader import DecodeLog
from faceinpaint_cli.pipeline.stages import Stages
from faceinpaint_cli.pipeline.video_damage import MendedFrames
from faceinpaint_cli.synthesis.bitstream import Corruption, packet_damage

SAMPLE = Path(__file__).parent.parent / "samples" / "whole" / "astronaut.png"


def portrait(index: int) -> np.ndarray:
    """The head of the sample, (240, 240, 3) uint8, that moves a little."""
    picture = np.asarray(Image.open(SAMPLE).convert("RGB"))
    return picture[: 240, 60 + index : 300 + index]


def clip_of(path: Path, pictures: list[np.ndarray], hit: int, position: float = 0.6) -> Path:
    """H.264 of one group whose packet number `hit` lost bytes from `position` (share of its length) on."""
    whole = encode(path.with_name("clean.mkv"), "libx264", iter(pictures), 250,
                   "yuv420p", {"crf": "20", "bf": "0", "sc_threshold": "0", "threads": "1"})
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        damage = packet_damage(stream, Corruption("bscv", position=position, bytes=1500), random.Random(1))
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            if number == hit:
                worse = av.Packet(damage(bytes(packet)))
                worse.pts, worse.dts, worse.time_base = packet.pts, packet.dts, packet.time_base
                worse.is_keyframe = packet.is_keyframe
                packet = worse
            packet.stream = copy
            out.mux(packet)
    return path


def mended(path: Path, stages: Stages | None) -> tuple[list[Planes], list[str]]:
    read = MendedFrames.of(index_video(path), diagnose(path), stages)
    shown = [planes_of(f) for _, f in read.read([(0, read.source.frames)], DecodeLog())]
    return shown, [m.how for m in read.mended]


def error(a: Planes, b: Planes) -> float:
    return float(np.abs(a[0].astype(float) - b[0]).mean())


def test_a_lost_first_picture_of_a_file_of_one_group_gets_a_face(tmp_path: Path) -> None:
    path = clip_of(tmp_path / "damaged.mkv", [portrait(i) for i in range(12)], hit=0)
    stages = Stages(RunConfig(device="cpu"))
    drawn, how = mended(path, stages)
    plain, before = mended(path, None)
    assert (how, before) == (["drawn"], ["concealed"])
    assert len(drawn) == len(plain) == 12
    grey = [np.repeat(planes[0][0][..., None], 3, 2) for planes in (drawn, plain)]
    (face,), (other,) = ([f.score for f in faces] or [0] for faces in stages.detector.detect(grey))
    assert face > 0.99 and face > other
    assert (drawn[0][0][:80] == plain[0][0][:80]).all()


def test_what_neighbours_show_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr("faceinpaint_cli.pipeline.image.repair_pictures", never)
    path = clip_of(tmp_path / "damaged.mkv", [portrait(i) for i in range(12)], hit=5)
    assert mended(path, Stages(RunConfig(device="cpu")))[1] == ["onward"]


@pytest.mark.parametrize("position", [0.6, 0.0])
def test_after_a_cut_what_is_left_of_the_picture_is_gone_by(tmp_path: Path, position: float) -> None:
    """There is a face again below the hair that is left. With nothing left to go by it stays as it is concealed."""
    pictures = [scene(i, 240, 240) for i in range(8)] + [portrait(i) for i in range(8)]
    path = clip_of(tmp_path / "damaged.mkv", pictures, hit=8, position=position)
    true = list(decoded(tmp_path / "clean.mkv").values())
    drawn, how = mended(path, Stages(RunConfig(device="cpu")))
    plain, _ = mended(path, None)
    assert how == (["drawn"] if position else ["concealed"])
    if position:
        [wanted], [], [found] = FaceDetector("cpu").detect(
            [np.repeat(p[8][0][..., None], 3, 2) for p in (true, plain, drawn)])
        assert overlap(found.box, wanted.box) > 0.4
    else:
        assert (drawn[8][0] == plain[8][0]).all()
