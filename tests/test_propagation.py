"""Holes in frames filled with what the frames around show of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceinpaint_cli.fill.propagation import Carried, Window, _without_scraps, reach, steadied

HEIGHT, WIDTH, FRAMES = 120, 160, 24


def ground(seed: int = 1) -> np.ndarray:
    """A textured picture, larger than a frame."""
    noise = np.random.default_rng(seed).uniform(30, 220, (HEIGHT // 12, WIDTH // 3, 3)).astype(np.float32)
    return cv2.resize(noise, (4 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def panned(seed: int = 1, step: int = 3) -> list[np.ndarray]:
    """Frames of a camera that turns by so many pixels a frame."""
    picture = ground(seed)
    return [np.ascontiguousarray(picture[:, step * i : step * i + WIDTH]) for i in range(FRAMES)]


def square(x: int, side: int = 30) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[45 : 45 + side, x : x + side] = True
    return mask


def window(frames: list[np.ndarray], masks: list[np.ndarray]) -> Window:
    result = Window()
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        hidden = frame.copy()
        hidden[mask] = np.iinfo(frame.dtype).max
        result.add(number, hidden, mask)
    return result


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    error = np.mean((a[mask].astype(float) - b[mask]) ** 2)
    return float(10 * np.log10(np.iinfo(a.dtype).max ** 2 / max(error, 1e-9)))


@pytest.mark.parametrize("deep", [False, True])
def test_what_other_frames_show_is_taken_from_there(deep: bool) -> None:
    frames = [f.astype(np.uint16) * 257 if deep else f for f in panned()]
    mask = square(60)
    carried = window(frames, [mask] * FRAMES).carried(12)
    assert carried.left.sum() < 0.02 * mask.sum()
    assert carried.image.dtype == frames[0].dtype
    assert psnr(carried.image, frames[12], mask & ~carried.left) > 30
    assert (carried.image[~mask] == frames[12][~mask]).all()


def test_a_change_of_light_is_followed() -> None:
    frames = [np.clip(f * 0.5 + 3 * i, 0, 255).astype(np.uint8) for i, f in enumerate(panned())]
    mask = square(60)
    carried = window(frames, [mask] * FRAMES).carried(12)
    assert not carried.left.all()
    assert psnr(carried.image, frames[12], mask & ~carried.left) > 30


def test_what_is_hidden_all_the_time_is_left_to_be_drawn() -> None:
    # the hole moves with what is behind it
    masks = [square(100 - 3 * i) for i in range(FRAMES)]
    carried = window(panned(), masks).carried(12)
    assert carried.left.sum() > 0.9 * masks[12].sum()
    assert not (carried.left & ~masks[12]).any()


def test_nothing_is_carried_over_a_cut() -> None:
    frames = [*panned(1)[:11], *panned(2)[11:13], *panned(3)[13:]]
    mask = square(60)
    carried = window(frames, [mask] * FRAMES).carried(11)
    # two frames of this scene show a strip of 3 pixels
    assert carried.left.sum() > 0.7 * mask.sum()


def test_a_frame_alone_is_left_as_it_is() -> None:
    mask = square(60)
    carried = window(panned()[:1], [mask]).carried(0)
    assert (carried.left == mask).all() and carried.back is None


def drawn(frame: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
    """A frame whose hole is filled with what is right on average, each time otherwise."""
    noise = np.random.default_rng(seed).normal(0, 12, frame.shape)
    return np.where(mask[..., None], np.clip(frame + noise, 0, 255), frame).astype(np.uint8)


def test_what_is_drawn_is_led_on_from_the_frame_before() -> None:
    frames, masks = panned(), [square(100 - 3 * i) for i in range(FRAMES)]
    among = window(frames, masks)
    before = drawn(frames[11], masks[11], 1)
    now: Carried = among.carried(12)
    fresh = drawn(frames[12], masks[12], 2)
    assert now.back is not None
    led = steadied(fresh, now.left, now.back, before)
    assert (led[~now.left] == fresh[~now.left]).all()
    inside = now.left & square(66, 26)
    assert psnr(led, frames[12], inside) > psnr(fresh, frames[12], inside) + 1
    cut = steadied(fresh, now.left, now.back, panned(5)[11])
    assert np.abs(cut[inside].astype(int) - fresh[inside]).mean() < 2, "another scene leads nowhere"


def test_the_window_is_bounded_by_pixels() -> None:
    assert reach(640 * 360) == 16 and reach(1920 * 1080) == 8 and reach(3840 * 2160) == 2
    assert reach(10**9) == 0
    among = window(panned(), [square(60)] * FRAMES)
    among.forget(11)
    with pytest.raises(KeyError):
        among.carried(10)
    assert among.carried(11).image.shape == (HEIGHT, WIDTH, 3)


def test_scraps_among_what_is_drawn_are_drawn_as_well():
    hole = np.zeros((200, 200), bool)
    hole[20:180, 20:180] = True
    left = hole.copy()
    left[20:180, 20:28] = False  # a strip at the rim, and a scrap
    left[90:100, 90:100] = False
    assert np.array_equal(_without_scraps(left, hole), hole)
    left = np.zeros_like(hole)
    left[20:180, 140:180] = True
    kept = _without_scraps(left, hole)
    assert kept[left].all() and not kept[:, :110].any() and not kept[~hole].any()
