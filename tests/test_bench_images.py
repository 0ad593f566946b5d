"""bench on small pictures: protocols, figures, other programs' outputs, failures that are counted."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from faceinpaint_bench import images, methods, protocols, sources
from faceinpaint_bench.config import BenchConfig, parse_external
from faceinpaint_bench.run import run_bench
from faceinpaint_bench.sources import decode_rgb
from PIL import Image
from skimage.data import astronaut

from faceinpaint_cli import metrics
from faceinpaint_cli.errors import DataError, FaceInpaintError, UsageError
from faceinpaint_cli.fill import registry
from faceinpaint_cli.models.checkpoint import save_checkpoint
from faceinpaint_cli.models.registry import build_generator

FACE = astronaut()[0:200, 130:330]


@pytest.fixture
def folder(tmp_path):
    """Five pictures of different sizes, one below another folder."""
    data = tmp_path / "faces"
    (data / "more").mkdir(parents=True)
    for i, (w, h) in enumerate([(178, 218), (64, 64), (80, 60), (60, 80)]):
        Image.fromarray(np.ascontiguousarray(FACE[::1])).resize((w, h)).save(data / f"{i}.png")
    Image.fromarray(FACE[:, ::-1].copy()).resize((100, 100)).save(data / "more" / "4.jpg")
    return data


def bench(folder, out, **settings):
    settings = {"methods": ("copy", "ns"), "size": 64, "data": (folder,), "examples": 2} | settings
    return run_bench(BenchConfig(output=out, **settings))


def rows(report):
    return {r["method"]: r for r in report["rows"]}


def test_a_network_trained_blind_draws_the_whole_picture_at_its_own_size(folder, tmp_path):
    torch.manual_seed(1)
    options = {"width": 4, "blocks": 2}
    net = build_generator("patchgan-inpaint", **options)
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, net.state_dict(), "patchgan-inpaint",
                    {"options": options, "told": False, "size": 32}, torch.float32)
    config = BenchConfig(output=tmp_path, data=(folder,), size=64, models=(str(path),),
                         methods=("generator", "generator (blind)"), protocol="celeba-white-square")
    given, withheld = methods.build_methods(config)[0]
    assert withheld.blind and not given.blind
    case = next(iter(protocols.Cases(config)))
    filled, whole = given.fill(case), withheld.fill(case)
    assert (filled[~case.mask] == case.damaged[~case.mask]).all() and (filled[case.mask] == whole[case.mask]).all()
    assert (whole[~case.mask] != case.damaged[~case.mask]).any()
    small = cv2.resize(case.damaged.astype(np.float32) / 127.5 - 1, (32, 32), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        drawn = net.eval()(torch.from_numpy(small).permute(2, 0, 1)[None], torch.zeros(1, 1, 32, 32))[0]
    large = cv2.resize(drawn.permute(1, 2, 0).numpy(), (64, 64), interpolation=cv2.INTER_CUBIC)
    assert np.abs((large + 1) * 127.5 - whole).mean() < 1.5
    other = next(iter(protocols.Cases(BenchConfig(output=tmp_path, data=(folder,), size=32))))  # as in suite speed
    assert withheld.fill(other).shape == (32, 32, 3)


def test_models_of_two_runs_are_told_apart_by_their_folders(folder, tmp_path):
    options = {"width": 4, "blocks": 1}
    paths = [tmp_path / run / "model.safetensors" for run in ("long", "short")]
    for path in paths:
        path.parent.mkdir()
        save_checkpoint(path, build_generator("patchgan-inpaint", **options).state_dict(), "patchgan-inpaint",
                        {"options": options, "size": 64}, torch.float32)
    config = BenchConfig(output=tmp_path, data=(folder,), size=64, models=tuple(map(str, paths)),
                         methods=("generator",))
    assert [m.name for m in methods.build_methods(config)[0]] == ["generator long", "generator short"]


def test_figures_are_those_of_the_measures(folder, tmp_path):
    report = bench(folder, tmp_path / "out")
    found = rows(report)["ns"]
    cases = list(protocols.Cases(BenchConfig(output=tmp_path, data=(folder,), size=64)))
    assert [c.name for c in cases] == ["0.png", "1.png", "2.png", "3.png", "more/4.jpg"]
    ns = registry.get_fill("ns")
    fills = [ns(c.damaged, c.mask) for c in cases]
    assert found["n"] == found["n_total"] == 5
    for name, measure in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
        for key, masked in ((name, False), (f"{name}_hole", True)):
            values = [measure(f, c.truth, c.mask if masked else None) for f, c in zip(fills, cases, strict=True)]
            assert found[key] == pytest.approx(np.mean(values), abs=1e-9), key
    assert found["lpips"] is None and found["ms_per_image"] > 0
    assert found["psnr"] - found["psnr_hole"] == pytest.approx(6.02, abs=0.01)
    low, high = found["spread"]["psnr"]["ci95"]
    assert low < found["psnr"] < high


def test_center25_crops_as_the_protocol_says(folder, tmp_path):
    config = BenchConfig(output=tmp_path, data=(folder,), size=128)
    cases = {c.name: c for c in protocols.Cases(config)}
    with Image.open(folder / "0.png") as picture:
        expected = picture.convert("RGB").crop((0, 20, 178, 198)).resize((128, 128), Image.Resampling.BICUBIC)
    case = cases["0.png"]
    assert np.array_equal(case.truth, np.asarray(expected))
    assert np.array_equal(np.argwhere(case.mask)[[0, -1]], [[32, 32], [95, 95]]) and case.mask.sum() == 64**2
    assert (case.damaged[case.mask] == 255).all()
    assert np.array_equal(case.damaged[~case.mask], case.truth[~case.mask])
    with Image.open(folder / "2.png") as picture:  # 80 x 60: the middle 60 x 60
        expected = picture.convert("RGB").crop((10, 0, 70, 60)).resize((128, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(cases["2.png"].truth, np.asarray(expected))


def test_white_square_is_seeded_and_a_quarter_of_the_face(tmp_path):
    data = tmp_path / "d"
    data.mkdir()
    Image.fromarray(FACE).save(data / "face.png")
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(data / "none.png")
    found = {}
    for seed in (0, 0, 1):
        cases = protocols.Cases(BenchConfig(output=tmp_path, data=(data,), protocol="celeba-white-square", seed=seed))
        (case,) = cases
        assert case.mask.mean() == 0.25
        (unused,) = cases.left_out
        assert unused.name == "none.png" and "no face" in unused.error and not unused.failed
        found.setdefault(seed, []).append(tuple(np.argwhere(case.mask)[0]))
    assert found[0][0] == found[0][1] != found[1][0]


def test_irregular_masks_go_through_the_bins(folder, tmp_path):
    masks = tmp_path / "masks.tar"
    with tarfile.open(masks, "w") as tar:
        for share in (10, 30, 50):
            picture = np.zeros((100, 100), np.uint8)
            picture[:share] = 255
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "PNG")
            info = tarfile.TarInfo(f"m/{share}.png")
            info.size = data.tell()
            data.seek(0)
            tar.addfile(info, data)
    report = bench(folder, tmp_path / "out", protocol="celeba-irregular", masks=masks, methods=("ns",))
    assert [(h["hole"], h["n"]) for h in rows(report)["ns"]["by_hole"]] == \
        [("0-20 %", 2), ("20-40 %", 2), ("40-60 %", 1)]
    text = (tmp_path / "out" / "bench.md").read_text()
    assert "| method | 0-20 % | 20-40 % | 40-60 % |" in text and "95 % of PSNR hole" in text
    few = tmp_path / "few"
    few.mkdir()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(few / "all.png")
    with pytest.raises(DataError, match="none covers 1%"):
        bench(folder, tmp_path / "out", protocol="celeba-irregular", masks=few)


def test_custom_masks_by_stem(folder, tmp_path):
    masks = tmp_path / "masks"
    (masks / "more").mkdir(parents=True)
    picture = np.zeros((64, 64), np.uint8)
    picture[10:20, 10:30] = 255
    for name in ("0", "1", "more/4"):
        Image.fromarray(picture).save(masks / f"{name}.png")
    report = bench(folder, tmp_path / "out", protocol="custom", masks=masks)
    assert rows(report)["ns"]["n"] == 3 and report["protocol"]["n"] == 3
    assert [(u["name"], u["failed"]) for u in report["unused"]] == [("2.png", True), ("3.png", True)]
    assert "2 pictures were not usable" in (tmp_path / "out" / "bench.md").read_text()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_give_the_same_figures(folder, tmp_path, kind):
    path = tmp_path / f"faces.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for p in sorted(folder.rglob("*.*")):
                archive.write(p, p.relative_to(folder))
            archive.writestr("notes.txt", "x")
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(folder, arcname="")
    a, b = bench(folder, tmp_path / "a"), bench(path, tmp_path / "b")
    for one, other in zip(a["rows"], b["rows"], strict=True):
        assert (one["psnr"], one["ssim_hole"], one["n"]) == (other["psnr"], other["ssim_hole"], other["n"])
    assert a["protocol"]["inputs_sha256"] == b["protocol"]["inputs_sha256"]


def test_the_bundled_samples_are_there_and_give_the_same_figures_twice(tmp_path):
    settings = {"data": (), "methods": ("ns", "efros-leung"), "size": 64}
    a, b = (bench(None, tmp_path / n, **settings) for n in "ab")
    assert a["protocol"]["dataset"] == "samples" and a["protocol"]["n"] >= 4
    for report in (a, b):
        for row in report["rows"]:
            row.pop("ms_per_image")
    assert a["rows"] == b["rows"] and a["pairs"] == b["pairs"] and a["protocol"] == b["protocol"]


def test_outputs_of_another_program(folder, tmp_path):
    inputs = tmp_path / "first"
    bench(folder, inputs, save_inputs=True)
    other = tmp_path / "other"
    for path in sorted((inputs / "inputs" / "damaged").rglob("*.png")):
        relative = path.relative_to(inputs / "inputs" / "damaged")
        with Image.open(path) as damaged, Image.open(inputs / "inputs" / "masks" / relative) as mask:
            filled = registry.get_fill("ns")(np.asarray(damaged), np.asarray(mask) > 0)
        filled[:2] = 0  # what the program did outside the hole does not count
        (other / relative).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(filled).save(other / relative)
    found = rows(bench(folder, tmp_path / "out", external=(("theirs", other),)))
    assert found["theirs"]["psnr"] == found["ns"]["psnr"] and found["theirs"]["ms_per_image"] is None
    (other / "0.png").unlink()
    Image.new("RGB", (32, 32)).save(other / "1.png")
    report = bench(folder, tmp_path / "out", external=(("theirs", other),))
    theirs = rows(report)["theirs"]
    assert (theirs["n"], theirs["n_total"]) == (3, 5)
    assert "expected 64 x 64" in theirs["failed"][1]["error"] and theirs["failed"][0]["name"] == "0.png"
    text = (tmp_path / "out" / "bench.md").read_text()
    assert "3 of 5" in text and "theirs failed on 2 of 5" in text


def test_a_method_that_fails_is_counted(folder, tmp_path, monkeypatch):
    calls = []

    def sometimes(image, mask):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no luck")
        return image

    monkeypatch.setitem(registry.FILLS, "ns", sometimes)
    report = bench(folder, tmp_path / "out")
    assert (rows(report)["ns"]["n"], rows(report)["copy"]["n"]) == (4, 5)
    assert rows(report)["ns"]["failed"] == [{"name": "1.png", "error": "RuntimeError: no luck"}]
    assert all(p["n"] == 4 for p in report["pairs"])


def test_what_cannot_run_is_left_out_by_default_and_an_error_when_named(folder, tmp_path, monkeypatch):
    def missing(image, mask):
        raise UsageError("needs x: pip install")

    monkeypatch.setitem(registry.FILLS, "patchmatch", missing)
    monkeypatch.setattr(methods, "default_names", lambda config: ["copy", "patchmatch"])
    report = bench(folder, tmp_path / "out", methods=())
    assert report["left_out"] == {"patchmatch": "needs x: pip install"} and list(rows(report)) == ["copy"]
    assert "Left out: patchmatch: needs x" in (tmp_path / "out" / "bench.md").read_text()
    with pytest.raises(UsageError, match="needs x"):
        bench(folder, tmp_path / "out", methods=("patchmatch",))


def test_bad_input(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.txt").write_text("x")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"\x89PNG nothing")
    out = tmp_path / "out"
    cases = [
        (DataError, "no pictures", {"data": (empty,)}),
        (DataError, "does not exist", {"data": (tmp_path / "nope",)}),
        (DataError, "no folder, zip, tar", {"data": (empty / "a.txt",)}),
        (DataError, "none of 1 pictures", {"data": (broken,)}),
        (UsageError, "known: copy, mean, ns", {"methods": ("nss",)}),
        (UsageError, "named copy", {"methods": ("copy",), "external": (("copy", folder),)}),
        (UsageError, "not a folder", {"external": (("x", tmp_path / "nope"),)}),
        (UsageError, "needs --masks", {"protocol": "custom"}),
        (UsageError, "--masks goes with", {"masks": empty}),
        (UsageError, "--size", {"size": 30}),
        (UsageError, "--limit", {"limit": 0}),
        (UsageError, "--seed must be 0 or more, not -1", {"seed": -1}),
        (UsageError, "--fidelity", {"fidelity": (1.5,)}),
        (FaceInpaintError, "no model file", {"methods": ("generator",), "models": (str(tmp_path / "x.safetensors"),)}),
        (FaceInpaintError, "--lpips", {"lpips": empty / "a.txt"}),
    ]
    for kind, message, settings in cases:
        with pytest.raises(kind, match=message) as caught:
            bench(folder, out, **settings)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="NAME=DIR"):
        parse_external("folder")


def test_sanity_rows_and_limit(folder, tmp_path):
    report = bench(folder, tmp_path / "out", methods=("copy", "mean", "ns"), limit=2)
    found = rows(report)
    assert found["copy"]["n"] == 2
    assert found["copy"]["psnr"] < found["mean"]["psnr"]
    case = next(iter(protocols.Cases(BenchConfig(output=tmp_path, data=(folder,), size=64))))
    assert metrics.psnr(methods._mean(case), case.truth, case.mask) < 30


def test_reports(folder, tmp_path):
    out = tmp_path / "out"
    report = bench(folder, out, methods=("copy", "ns", "telea"), junit=tmp_path / "junit.xml")
    assert json.loads((out / "bench.json").read_text()) == report
    page = (out / "bench.html").read_text()
    assert page.count("<article>") == 2 and page.count("<img") == 2 * 5
    assert "src='http" not in page and page.count("<svg") == 1
    lines = (out / "scores.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 5
    assert (tmp_path / "junit.xml").read_text().count("<testcase") == 3


def test_dollars_in_a_name_are_no_formula(folder, tmp_path):
    masks = tmp_path / "masks"
    (masks / "more").mkdir(parents=True)
    for share, name in enumerate(("0", "1", "2", "3", "more/4"), 1):
        picture = np.zeros((64, 64), np.uint8)
        picture[:10 * share] = 255
        Image.fromarray(picture).save(masks / f"{name}.png")
    settings = {"protocol": "custom", "masks": masks, "methods": ("ns",)}
    bench(folder, tmp_path / "first", save_inputs=True, **settings)
    names = (r"$\wrong$", "$x$ & <y>")
    bench(folder, tmp_path / "out", external=tuple((n, tmp_path / "first/inputs/truth") for n in names), **settings)
    page = (tmp_path / "out" / "bench.html").read_text()
    assert page.count("<svg") == 2 and "<!-- $\\wrong$ -->" in page


def test_pictures_of_one_name_in_several_folders_all_count(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = BenchConfig(output=tmp_path / "o", data=(folder, other), size=64, methods=("copy",))
    result = images.run_images(config, lambda values, total: values)
    assert len(result.outcomes[0].scores) == 2 * len(list(protocols.Cases(
        BenchConfig(output=tmp_path, data=(folder,), size=64))))
    with pytest.raises(DataError, match="is there twice"):
        protocols.Cases(BenchConfig(output=tmp_path, data=(folder, folder), size=64))


def test_no_member_of_a_tar_leads_out_of_the_output(tmp_path):
    outside = tmp_path / "outside" / "y.png"
    picture = tmp_path / "p.png"
    Image.fromarray(np.full((80, 80, 3), 90, np.uint8)).save(picture)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("p.png", str(outside)):
            member = tarfile.TarInfo(name)
            member.size = picture.stat().st_size
            with picture.open("rb") as file:
                tar.addfile(member, file)
    report = bench(tmp_path / "a.tar", tmp_path / "o", methods=("copy",), save_inputs=True)
    assert report["protocol"]["n"] == 1 and not outside.parent.exists()


def test_sixteen_bit_grey_keeps_its_greys():
    out = io.BytesIO()
    Image.fromarray(np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)).save(out, "PNG")
    assert (decode_rgb(out.getvalue(), "a")[..., 0].ravel() == np.arange(256)).all()


def test_examples_are_the_worst(folder, tmp_path):
    config = BenchConfig(output=tmp_path, data=(folder,), size=64, methods=("ns",), examples=2)
    result = images.run_images(config, lambda values, total: values)
    scores = sorted(s["psnr_hole"] for s in result.outcomes[0].scores.values())
    assert [e.scores["ns"]["psnr_hole"] for e in result.examples] == scores[:2]


def test_names_match_across_archives():
    item = sources.Item("a/b.c.png", bytes)
    assert item.stem == str(Path("a/b.c"))
