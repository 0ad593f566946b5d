"""Training of the video localiser: samples from real encoders and decoders, loss, a short run that learns."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from faceinpaint_train import run, video_localiser
from faceinpaint_train.fit import fit
from faceinpaint_train.video_localiser import SEEN, Mix, clip_frames, encode, loss_of, make_batch, moving_face, samples
from media_factory import make_clip
from PIL import Image
from safetensors.torch import load_file

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.models.networks.video_localiser import CHANNELS, VideoLocaliser

torch.set_num_threads(1)
SIZE = (128, 96)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", size=SIZE, frames=30)


@pytest.mark.parametrize("coding", ["hevc", "vp9", "mjpeg", "mpeg2"])
def test_samples_are_hit_pictures_and_whole_ones(clip, tmp_path, coding):
    coded = encode(clip_frames(clip, SIZE), coding, SIZE, tmp_path / "coded.mkv")
    assert len(coded.pictures) == len(coded.packets) == 30
    found = list(samples(coded, 24, random.Random(1), mix=Mix(reduced=(1,))))
    assert all(o.shape == (CHANNELS, 12, 16) and o.dtype == np.uint8 for o, _ in found)
    assert all(d.shape == (12, 16) and d.dtype == np.uint8 for _, d in found)
    hit = sum(bool((d > 4 * SEEN).any()) for _, d in found)
    assert 0 < hit < 24
    other = [tuple(255 - plane for plane in coded.pictures[i]) for i in (3, 2)]
    cut = list(samples(coded, 6, random.Random(1), other, Mix(hit=0, beside_hit=0, cut=1, reduced=(2,))))
    assert all(d.shape == (6, 8) and not d.any() for _, d in cut)
    assert all(np.abs(o[:64].astype(int) - o[96:160]).mean() > 20 for o, _ in cut), "another clip stands beside them"


def test_a_still_face_is_set_in_motion():
    face = cv2.resize(np.random.default_rng(1).integers(40, 200, (7, 6, 3), dtype=np.uint8), (178, 218))
    frames = list(moving_face(face, np.random.default_rng(2), SIZE, 12))
    assert all(f.shape == (96, 128, 3) for f in frames)
    assert all(np.abs(a.astype(int) - b).mean() > 0.2 for a, b in pairwise(frames))


def test_loss_counts_what_is_plainly_damaged_most():
    difference = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    difference[..., :2] = 200
    good = torch.where(difference > 0, 6.0, -6.0)
    assert loss_of(good, difference) < 0.02 < 2 < loss_of(-good, difference)
    faint = torch.full_like(difference, int(4 * SEEN) + 1)
    mixed = torch.cat([difference, faint], 2)
    wrong_of_faint = torch.cat([good, torch.full_like(good, -6.0)], 2)
    wrong_of_plain = torch.cat([-good, torch.full_like(good, 6.0)], 2)
    assert loss_of(wrong_of_faint, mixed) < 0.2 * loss_of(wrong_of_plain, mixed)


def test_a_short_run_learns(clip, tmp_path):
    coded = encode(clip_frames(clip, SIZE), "hevc", SIZE, tmp_path / "coded.mkv")
    stock = list(samples(coded, 16, random.Random(3), mix=Mix(reduced=(1,))))
    net = fit(VideoLocaliser(), lambda step: make_batch(stock, 1, step, count=8), loss_of, tmp_path, 0, 3e-3, steps=40)
    seen, difference = make_batch(stock, 1, 10_000, count=8)
    with torch.inference_mode():
        assert loss_of(net(seen), difference) < 0.7 * loss_of(VideoLocaliser()(seen), difference)


def test_a_run_leaves_the_weights(clip, tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    for i, small in enumerate(np.random.default_rng(1).integers(40, 200, (20, 7, 6, 3), dtype=np.uint8)):
        Image.fromarray(cv2.resize(small, (178, 218))).save(tmp_path / "faces" / f"{i + 1:06d}.png")
    with pytest.raises(UsageError, match="learns from videos"):
        run.train_video_localiser_run([tmp_path / "faces"], tmp_path / "none", 1)
    monkeypatch.setattr(video_localiser, "CODINGS", {"mjpeg": video_localiser.CODINGS["mjpeg"]})
    facts = run.train_video_localiser_run([tmp_path / "faces", clip], tmp_path / "run", 0.005)
    assert json.loads(json.dumps(facts))["train"] >= 16
    kept = load_file(tmp_path / "run/video-localiser.safetensors")
    VideoLocaliser().load_state_dict({k: v.float() for k, v in kept.items()})
