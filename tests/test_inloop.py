"""In-loop repair of H.264: what a true picture put back gives, and what the fill gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import decoded, encode, scene, video_packets

from faceinpaint_cli.damage.evidence import Diagnosis, diagnose
from faceinpaint_cli.damage.extent import with_unnoticed
from faceinpaint_cli.fill.motion import Lost
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.optical_flow import Planes
from faceinpaint_cli.media.planes import planes_of
from faceinpaint_cli.media.video_index import index_video
from faceinpaint_cli.media.video_reader import DecodeLog
from faceinpaint_cli.pipeline import course, inloop, inloop_group
from faceinpaint_cli.pipeline.course import Course
from faceinpaint_cli.pipeline.inloop import InLoop, group_edges, why_not
from faceinpaint_cli.pipeline.video_damage import MendedFrames
from faceinpaint_cli.synthesis.bitstream import Corruption, corrupt, packet_damage


def make_clip(path: Path, frames: int = 40, size: tuple[int, int] = (144, 176), gop: int = 20, pixels: str = "yuv420p",
              **options: str) -> Path:
    """h264; size (height, width)."""
    fixed = {"crf": "18", "keyint_min": str(gop), "sc_threshold": "0"}
    return encode(path, "libx264", (scene(i, *size) for i in range(frames)), gop, pixels, fixed | options)


def mended(found: Diagnosis, fill: Callable[[Lost], tuple[Planes, str]] | None = None,
           threads: bool = False) -> tuple[dict[int, Planes], InLoop]:
    with InLoop(found, fill) as loop, av.open(found.path) as container:
        context = tolerant.open_decoder(container.streams.video[0], threads=threads)
        shown = {}
        for _, frames, error in tolerant.decode(context, loop.packets(0, len(found.pictures))):
            assert error is None
            shown |= {f.pts: planes_of(f) for f in frames}
        return shown, loop


def psnr(a: Planes, b: Planes) -> float:
    error = np.mean((a[0].astype(float) - b[0]) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def from_truth(clip: Path) -> Callable[[Lost], tuple[Planes, str]]:
    whole = decoded(clip, whole=True)
    return lambda picture: (whole[picture.time], "true")


@pytest.mark.parametrize("options", [
    {}, {"refs": "4"}, {"x264-params": "cabac=0"}, {"slices": "3"}, {"weightp": "2"}, {"preset": "ultrafast"},
    {"x264-params": "tff=1", "flags": "+ilme+ildct"}, {"x264-params": "bff=1:cabac=0", "flags": "+ilme+ildct"},
], ids=str)
def test_the_true_picture_put_back_makes_the_rest_exact(tmp_path: Path, options: dict[str, str]) -> None:
    clip = make_clip(tmp_path / "clean.mp4", bf="0", **options)
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", bytes=900, spare_keyframes=True), tmp_path)
    found = diagnose(tmp_path / "damaged.mp4")
    clean = decoded(clip)
    damaged = decoded(tmp_path / "damaged.mp4")
    assert found.damaged
    assert any(psnr(clean[t], damaged[t]) < 50 for t in clean)
    for threads in (False, True):
        shown, _ = mended(found, from_truth(clip), threads)
        assert shown.keys() == clean.keys()
        for time, planes in clean.items():
            assert all((a == b).all() for a, b in zip(planes, shown[time], strict=True)), time


def test_a_hit_keyframe_is_put_back_too(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", bf="0")
    for seed in range(50):
        done = corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=seed, bytes=900), tmp_path)
        if any(h.picture == 20 for h in done.hits):
            break
    found = diagnose(tmp_path / "damaged.mp4")
    clean, (shown, _) = decoded(clip), mended(found, from_truth(clip))
    assert all((clean[t][0] == shown[t][0]).all() for t in clean)


def test_a_hit_first_keyframe_is_filled_from_the_next_one_though_what_is_left_of_it_is_far_from_both(
        tmp_path: Path) -> None:
    slow = (scene(i // 10, 144, 176) for i in range(40))
    clip = encode(tmp_path / "clean.mp4", "libx264", slow, 20, options={"crf": "18", "keyint_min": "20", "bf": "0"})
    for seed in range(200):
        how = Corruption("bscv", seed=seed, bytes=4000, fraction=0.03, position=0.2)
        done = corrupt(clip, tmp_path / "damaged.mp4", how, tmp_path)
        if [h.picture for h in done.hits] == [0]:
            break
    else:
        raise AssertionError("no seed hits the first picture alone")
    clean, plain = decoded(clip), decoded(tmp_path / "damaged.mp4")
    shown, loop = mended(diagnose(tmp_path / "damaged.mp4"))
    times = sorted(clean)[:20]
    assert np.mean([psnr(clean[t], plain[t]) for t in times]) < 20
    assert loop.mended[0].how != "concealed"
    assert np.mean([psnr(clean[t], shown[t]) for t in times]) > np.mean([psnr(clean[t], plain[t]) for t in times]) + 1.5


def test_a_hit_first_keyframe_and_a_later_picture_are_set_straight_together(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", bf="0")
    for seed in range(400):
        done = corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=seed, bytes=900, fraction=0.1), tmp_path)
        hits = [h.picture or 0 for h in done.hits]
        if hits[:1] == [0] and 20 not in hits and 1 not in hits and hits[1] in range(5, 20):
            break
    else:
        raise AssertionError("no seed hits the first keyframe and a later picture")
    whole, clean = decoded(clip, whole=True), decoded(clip)
    shown, loop = mended(diagnose(tmp_path / "damaged.mp4"), lambda picture: (whole[picture.time], "onward"))
    assert len(loop.mended) == len(hits) and shown.keys() == clean.keys()
    assert min(psnr(clean[t], shown[t]) for t in clean) > 30, "true pictures are hardly moved aside"


def test_nothing_is_set_straight_where_pictures_repeat(tmp_path: Path) -> None:
    """What a step moves by is not told by the steps beside it then."""
    pictures = (scene(3 * (i - i // 3), 144, 176) for i in range(41))
    fixed = {"crf": "18", "keyint_min": "20", "sc_threshold": "0", "bf": "0"}
    clip = encode(tmp_path / "clean.mp4", "libx264", pictures, 20, options=fixed)
    how = Corruption("bscv", seed=2, bytes=900, spare_keyframes=True)
    corrupt(clip, tmp_path / "damaged.mp4", how, tmp_path)
    clean, true = decoded(clip), from_truth(clip)
    shown, loop = mended(diagnose(tmp_path / "damaged.mp4"), lambda picture: (true(picture)[0], "onward"))
    assert {m.how for m in loop.mended} == {"onward"}
    assert all((clean[t][0] == shown[t][0]).all() for t in clean)


def test_a_keyframe_that_no_hit_picture_reaches_judges_no_fill() -> None:
    pictures = [scene(i, 144, 176) for i in range(4)]
    smooth, torn = (dict(enumerate(p)) for p in (pictures, [pictures[0], pictures[1][::-1], *pictures[2:]]))
    assert Course(2.0, torn).is_worse_than(Course(2.0, smooth))
    assert not Course(2.0, smooth).is_worse_than(Course(2.0, torn))
    assert not Course(1.5, torn).is_worse_than(Course(2.0, smooth)), "it does reach it"


def test_refresh_bit_by_bit_is_no_group_that_stands_alone(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", frames=48, bf="0", **{"x264-params": "intra-refresh=1:keyint=16"})
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=1, bytes=300, spare_keyframes=True), tmp_path)
    found, clean, damaged = diagnose(tmp_path / "damaged.mp4"), decoded(clip), decoded(tmp_path / "damaged.mp4")
    assert [p.index for p in found.pictures if p.keyframe] == [0, 16, 32], "the container calls them keyframes"
    assert len(found.groups) == 1 and max(o.packet for g in found.groups for o in g.onsets) > 16
    hurt = {t for t in clean if psnr(clean[t], damaged[t]) < 60}
    assert hurt and hurt <= found.damaged_times()
    shown, _ = mended(found)
    assert np.mean([psnr(clean[t], shown[t]) - psnr(clean[t], damaged[t]) for t in hurt]) > 1
    shown, _ = mended(found, from_truth(clip))
    assert all((clean[t][0] == shown[t][0]).all() for t in clean)


@pytest.mark.parametrize("options", [{}, {"b-pyramid": "strict", "refs": "4"}, {"weightb": "0", "bf": "2"}], ids=str)
def test_with_b_pictures_the_rest_is_nearly_exact(tmp_path: Path, options: dict[str, str]) -> None:
    clip = make_clip(tmp_path / "clean.mp4", **options)
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", bytes=900, spare_keyframes=True), tmp_path)
    clean, (shown, _) = decoded(clip), mended(diagnose(tmp_path / "damaged.mp4"), from_truth(clip))
    assert shown.keys() == clean.keys()
    assert np.mean([min(psnr(clean[t], shown[t]), 99) for t in clean]) > 50


@pytest.mark.parametrize(("size", "pixels"), [((146, 178), "yuv420p"), ((144, 176), "yuv422p"),
                                              ((130, 170), "yuv420p10le")])
def test_odd_sizes_and_other_samples(tmp_path: Path, size: tuple[int, int], pixels: str) -> None:
    clip = make_clip(tmp_path / "clean.mp4", size=size, pixels=pixels, bf="0")
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", bytes=900, spare_keyframes=True), tmp_path)
    clean, (shown, _) = decoded(clip), mended(diagnose(tmp_path / "damaged.mp4"), from_truth(clip))
    assert all((a == b).all() for t in clean for a, b in zip(clean[t], shown[t], strict=True))


@pytest.mark.parametrize("options", [{"bf": "0"}, {}], ids=str)
def test_the_fill_is_better_than_the_decoders_concealment(tmp_path: Path, options: dict[str, str]) -> None:
    clip = make_clip(tmp_path / "clean.mp4", **options)
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=2, bytes=900, spare_keyframes=True), tmp_path)
    clean, damaged = decoded(clip), decoded(tmp_path / "damaged.mp4")
    shown, loop = mended(diagnose(tmp_path / "damaged.mp4"))
    hurt = [t for t in clean if psnr(clean[t], damaged[t]) < 45]
    assert len(hurt) > 5 and loop.mended
    before = np.mean([psnr(clean[t], damaged[t]) for t in hurt])
    after = np.mean([min(psnr(clean[t], shown[t]), 60) for t in hurt])
    assert after > before + 3


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}], ids=str)
def test_dropped_pictures_are_put_back(tmp_path: Path, options: dict[str, str]) -> None:
    clip = make_clip(tmp_path / "clean.mp4", **options)
    for seed in range(20):
        done = corrupt(clip, tmp_path / "damaged.mp4", Corruption("drop", seed=seed, spare_keyframes=True), tmp_path)
        if all(2 < h.picture % 20 < 17 for h in done.hits):
            break
    clean, damaged = decoded(clip), decoded(tmp_path / "damaged.mp4")
    shown, _ = mended(diagnose(tmp_path / "damaged.mp4"))
    assert len(damaged) < len(clean)
    assert shown.keys() == clean.keys()
    assert all(psnr(clean[t], shown[t]) > 20 for t in clean)
    exact, _ = mended(diagnose(tmp_path / "damaged.mp4"), from_truth(clip))
    assert np.mean([min(psnr(clean[t], exact[t]), 99) for t in clean]) > 50


def test_a_long_stretch_without_packets_is_filled_from_both_sides(tmp_path: Path) -> None:
    """Something starts to move in it: what came before tells nothing of that."""
    pictures = (scene(max(0, i - 8) / 3, 144, 176) for i in range(60))
    clip, damaged = tmp_path / "clean.ts", tmp_path / "damaged.ts"
    encode(clip, "libx264", pictures, 30, options={"crf": "18", "keyint_min": "30", "sc_threshold": "0"})
    data = clip.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    starts = [i for i, p in enumerate(packets) if p[1] & 0x5F == 0x41 and p[2] == 0]
    damaged.write_bytes(b"".join(packets[: starts[5]] + packets[starts[21] :]))
    clean, (shown, loop) = decoded(clip), mended(diagnose(damaged))
    times = sorted(clean)
    assert shown.keys() == clean.keys() and len(loop.mended) == 16
    gap = sorted(clean.keys() - decoded(damaged).keys())
    last = times[times.index(gap[0]) - 1]
    frozen, filled = (np.mean([np.square(clean[t][0].astype(float) - made(t)[0]).mean() for t in gap])
                      for made in (lambda t: clean[last], shown.__getitem__))
    assert filled < 0.7 * frozen


def test_packets_of_clean_groups_are_the_files_own(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clean.mp4", frames=60)
    for seed in range(20):
        done = corrupt(clip, tmp_path / "damaged.mp4", Corruption("drop", seed=seed, fraction=0.02), tmp_path)
        if [h for h in done.hits if 22 < h.picture < 38] == done.hits:
            break
    found = diagnose(tmp_path / "damaged.mp4")
    with av.open(found.path) as container:
        plain = [bytes(p) for p in container.demux(video=0) if p.size]
    with InLoop(found) as loop:
        given = [bytes(p) for p in loop.packets(0, len(found.pictures))]
    assert given[:20] == plain[:20] and given[-20:] == plain[-20:]
    assert len(given) == len(plain) + 1


def test_other_codecs_are_refused_with_a_reason(tmp_path: Path) -> None:
    encode(tmp_path / "m.avi", "mpeg4", (np.full((48, 64), 40 * i, np.uint8) for i in range(5)))
    assert "mpeg4" in (why_not(diagnose(tmp_path / "m.avi")) or "")


def test_groups_are_cut_where_nothing_crosses_and_long_ones_where_only_leading_pictures_do() -> None:
    pictures = [(True, 0), (False, 2), (False, 1), (True, 3), (False, 5), (True, 7), (False, 6), (True, 8)]
    assert group_edges(pictures) == [0, 3, 7, 8]
    assert group_edges(pictures, longest=2) == [0, 3, 5, 7, 8]
    assert group_edges([(True, 3), (False, 1), (True, 2), (False, 4)], longest=1) == [0, 4]


@pytest.mark.parametrize("longest", [1, 240])
def test_open_groups_are_mended_whole_or_cut(longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the true pictures; what a B picture takes of the motion of a hit one is lost."""
    monkeypatch.setattr(inloop.group_edges, "__defaults__", (longest,))
    clip = make_clip(tmp_path / "clean.mp4", frames=60, gop=12, bf="2", **{"x264-params": "open-gop=1:b-adapt=0"})
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=1, bytes=300), tmp_path)
    found, clean = diagnose(tmp_path / "damaged.mp4"), decoded(clip)
    shown, loop = mended(found, from_truth(clip))
    assert loop.mended and shown.keys() == clean.keys()
    assert np.mean([min(psnr(clean[t], shown[t]), 60) for t in clean]) > 55


def test_where_a_group_begins_fills_are_judged_from_the_picture_before_on(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat grey that is carried on jumps only there: it was kept where the next keyframe does not tell, as in an open
    group behind that one."""
    for module in (course, inloop_group):
        monkeypatch.setattr(module, "keyframe_tells", lambda now, filled: False)
    seen: list[list[int]] = []
    monkeypatch.setattr(inloop_group, "Course", lambda misfit, lumas: seen.append(list(lumas)) or Course(misfit, lumas))
    clip, damaged = make_clip(tmp_path / "clean.mp4", bf="0"), tmp_path / "damaged.mp4"
    for seed in range(400):
        done = corrupt(clip, damaged, Corruption("bscv", seed=seed, bytes=300, fraction=0.02), tmp_path)
        if [h.picture for h in done.hits] == [20]:
            break
    times = sorted(decoded(clip))
    assert mended(diagnose(damaged))[1].mended and len(seen) == 2
    assert all(course[:2] == times[19:21] for course in seen)


@pytest.mark.parametrize("frames", [20, 40], ids=["no keyframe behind", "a keyframe behind"])
def test_a_fill_that_does_not_fit_what_follows_is_not_kept(tmp_path: Path, frames: int) -> None:
    clip = make_clip(tmp_path / "clean.mp4", frames=frames, bf="0")
    corrupt(clip, tmp_path / "damaged.mp4", Corruption("bscv", seed=2, bytes=300, spare_keyframes=True), tmp_path)
    truth = decoded(clip, whole=True)

    def aside(picture: Lost) -> tuple[Planes, str]:
        return tuple(np.roll(p, (p.shape[0] // 3, p.shape[1] // 3), (0, 1)) for p in truth[picture.time]), "onward"

    found = diagnose(tmp_path / "damaged.mp4")
    _, loop = mended(found, aside)
    _, good = mended(found, from_truth(clip))
    assert loop.mended[0].how == "concealed" and good.mended[0].how == "true"


@pytest.mark.parametrize("mendable", [True, False])
def test_what_is_left_of_a_hit_keyframe_is_shown_as_a_player_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                      mendable: bool) -> None:
    """A decoder conceals with what it showed last, so it must have seen the group before, which is copied."""
    clip = make_clip(tmp_path / "damaged.mp4", bf="0", frames=60, gop=20, threads="1")  # as many slices everywhere
    data, key = bytearray(clip.read_bytes()), video_packets(clip)[20]
    end = bytes(data).index(key) + len(key)
    data[end - len(key) // 2 : end] = bytes(len(key) // 2)
    clip.write_bytes(data)

    def upside_down(picture: Lost) -> tuple[Planes, str]:
        return tuple(255 - p[::-1] for p in (picture.before or picture.after)[0].planes), "onward"

    monkeypatch.setattr("faceinpaint_cli.pipeline.inloop.fill_by_consensus", upside_down)
    found = diagnose(clip)
    read = MendedFrames.of(index_video(clip), found)
    read.why_not = None if mendable else "for this test"
    shown = {int(read.source.times[n]): planes_of(f) for n, f in read.read([(20, 40)], DecodeLog())}
    assert [m.how for m in read.mended] == ["concealed"] * mendable
    plain = decoded(clip)
    assert len(shown) == 20 and all((shown[t][0] == plain[t][0]).all() for t in shown)


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_first_keyframe_with_nothing_of_its_own_is_filled_from_the_next(tmp_path: Path, suffix: str) -> None:
    """The decoder shows flat grey for it, which is carried on without a jump: it must not be preferred for that, nor
    be mixed into the fill."""
    still = (scene(index // 16, 144, 176) for index in range(40))  # hardly another one when the next keyframe comes
    clip = encode(tmp_path / f"clean.{suffix}", "libx264", still, 20, "yuv420p",
                  {"crf": "18", "bf": "0", "threads": "1", "keyint_min": "20", "sc_threshold": "0"})
    with av.open(str(clip)) as source, av.open(str(tmp_path / f"damaged.{suffix}"), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        damage = packet_damage(stream, Corruption("bscv", position=0.0, bytes=3000), random.Random(1))
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            if number == 0:
                hit = av.Packet(damage(bytes(packet)))
                hit.pts, hit.dts, hit.time_base, hit.is_keyframe = packet.pts, packet.dts, packet.time_base, True
                packet = hit
            packet.stream = copy
            out.mux(packet)
    shown, loop = mended(diagnose(tmp_path / f"damaged.{suffix}"))
    assert [(m.how, m.lost) for m in loop.mended] == [("onward", 1.0)]
    concealed = list(decoded(tmp_path / f"damaged.{suffix}").values())
    true = list(decoded(clip).values())
    for number in (0, 10):
        assert psnr(list(shown.values())[number], true[number]) > psnr(concealed[number], true[number]) + 6


def test_garbage_of_a_keyframe_that_the_decoder_did_not_notice_counts_as_lost(tmp_path: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes made random in the lower half of a keyframe: of what comes out wrong, nearly all is to be filled."""
    clip = make_clip(tmp_path / "clean.mp4", bf="0", size=(288, 352), threads="1")
    clean, data, key = decoded(clip, whole=True), clip.read_bytes(), video_packets(clip)[20]
    seen: list[Lost] = []

    def note(picture: Lost) -> tuple[Planes, str]:
        seen.append(picture)
        return clean[picture.time], "true"

    def overlooked() -> int:
        """Wrong pixels that do not count as lost, over some places where the damage begins."""
        seen.clear()
        for share in (0.56, 0.6, 0.64, 0.68):
            start = data.index(key) + int(len(key) * share)
            garbage = np.random.default_rng(64).integers(0, 256, 64, dtype=np.uint8).tobytes()
            (tmp_path / "damaged.mp4").write_bytes(data[:start] + garbage + data[start + 64 :])
            mended(diagnose(tmp_path / "damaged.mp4"), note)
        wrong = [np.abs(p.decoded[0].astype(int) - clean[p.time][0]) > 24 for p in seen if p.decoded]
        return sum(int((w & ~p.lost).sum()) for w, p in zip(wrong, seen, strict=True))

    now = overlooked()
    monkeypatch.setattr(inloop_group, "with_unnoticed", lambda lost, *rest: lost)
    before = overlooked()
    assert before > 50 and now < before / 5


def test_unnoticed_garbage_ends_where_a_row_is_whole_and_is_none_where_all_differs() -> None:
    lost, hurt = np.zeros(60, bool), np.zeros(60, int)
    lost[45:], hurt[33:] = True, 4  # rows of ten, two slices
    assert np.flatnonzero(with_unnoticed(lost, hurt, (0, 20), 10)).tolist() == list(range(33, 60))
    hurt[22] = 1  # a single cell is no damage
    assert with_unnoticed(lost, hurt, (0, 20), 10).sum() == 27
    hurt[20:] = 4
    assert (with_unnoticed(lost, hurt, (0, 20), 10) == lost).all()
    assert with_unnoticed(lost, hurt, (0,), 10).sum() == 40
    assert (with_unnoticed(lost, np.full(60, 4), (0,), 10) == lost).all()
