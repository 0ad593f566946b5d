"""Guesses at a lost picture and what is made of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceinpaint_cli.fill.consensus import choose, fill_lost
from faceinpaint_cli.fill.motion import (
    Lost,
    Neighbour,
    candidates,
    carried_down,
    composed,
    later_motion,
    motion_through,
    on_the_way,
)
from faceinpaint_cli.media.optical_flow import Planes, warp

SIZE = (96, 128)
VECTOR = np.dtype([("source", "i4"), ("w", "u1"), ("h", "u1"), ("src_x", "i2"), ("src_y", "i2"), ("dst_x", "i2"),
                   ("dst_y", "i2"), ("flags", "u8"), ("motion_x", "i4"), ("motion_y", "i4"), ("motion_scale", "u2")])


def at(shift: float, seed: int = 1) -> Planes:
    """A picture of a texture that pans to the left: `shift` pixels so far."""
    small = np.random.default_rng(seed).integers(30, 220, (14, 30)).astype(np.float32)
    texture = cv2.resize(small, (360, 168), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[1, 0, -20 - shift], [0, 1, -20]], np.float32)
    luma = cv2.warpAffine(texture, matrix, SIZE[::-1], flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    chroma = np.full((SIZE[0] // 2, SIZE[1] // 2), 128, np.uint8)
    return luma, chroma, chroma


def vectors(dx: float) -> np.ndarray:
    """Of a picture whose every 16 x 16 block stands `dx` pixels further right in its earlier reference."""
    blocks = [(x + 8, y + 8) for y in range(0, SIZE[0], 16) for x in range(0, SIZE[1], 16)]
    result = np.zeros(len(blocks), VECTOR)
    result["source"], result["w"], result["h"], result["motion_scale"] = -1, 16, 16, 4
    result["dst_x"], result["dst_y"] = np.array(blocks).T
    result["motion_x"] = round(dx * 4)
    return result


def lower_half() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[48:] = True
    return mask


def error(a: Planes, b: Planes, inside: np.ndarray) -> float:
    return float(np.abs(a[0].astype(float) - b[0])[inside][:, None].mean())


def panning(decoded: Planes | None, behind: bool = False) -> Lost:
    before = [Neighbour(3, at(12)), Neighbour(2, at(8)), Neighbour(1, at(4))]
    after = [Neighbour(5, at(20), vectors(4.0))]
    return Lost(4, decoded, lower_half(), before, [Neighbour(5, at(20))] if behind else [], [] if behind else after)


def concealed() -> Planes:
    """Its own upper half, black below."""
    luma, *chroma = at(16)
    return (np.where(lower_half(), 0, luma).astype(np.uint8), *chroma)


@pytest.mark.parametrize("behind", [False, True])
def test_a_pan_is_carried_on(behind: bool) -> None:
    picture = panning(concealed(), behind)
    filled, how = fill_lost(picture, candidates(picture))
    inner = np.zeros(SIZE, bool)
    inner[52:88, 12:100] = True
    assert how == ("between" if behind else "onward")
    assert error(filled, at(16), inner) < 3
    assert error(at(12), at(16), inner) > 8
    assert (filled[0][:48] == at(16)[0][:48]).all()


def test_a_missing_picture_is_filled_whole() -> None:
    picture = panning(None)
    filled, how = fill_lost(picture, candidates(picture))
    inner = np.zeros(SIZE, bool)
    inner[8:88, 12:100] = True
    assert how == "onward" and error(filled, at(16), inner) < 3


def test_behind_a_cut_the_concealment_stays() -> None:
    luma, *chroma = at(16, seed=9)
    other = (np.where(lower_half(), 77, luma).astype(np.uint8), *chroma)
    picture = panning(other)
    filled, how = fill_lost(picture, candidates(picture))
    assert how == "concealed"
    assert (filled[0] == other[0]).all()


def test_a_flash_is_no_cut() -> None:
    """The light changes with the lost picture: what is carried over is lit as its intact part is."""
    def lit(planes: Planes) -> Planes:
        return ((planes[0] * 0.6 + 90).astype(np.uint8), *planes[1:])

    luma, *chroma = lit(at(16))
    picture = panning((np.where(lower_half(), 0, luma).astype(np.uint8), *chroma))
    filled, how = fill_lost(picture, candidates(picture))
    inner = np.zeros(SIZE, bool)
    inner[52:88, 12:100] = True
    assert how == "onward" and error(filled, lit(at(16)), inner) < 5
    assert error(lit(at(16)), at(16), inner) > 30


def test_between_pictures_of_which_the_first_is_shown_again_it_rests() -> None:
    """Twelve frames a second shown at twenty-four: no straight way leads over the repeated picture."""
    luma, *chroma = at(12)
    stuck = (np.where(lower_half(), 0, luma).astype(np.uint8), *chroma)
    picture = Lost(4, stuck, lower_half(), [Neighbour(3, at(12))], [Neighbour(5, at(12.1))], [])
    chosen, how = choose(picture, candidates(picture))
    assert how == "between" and chosen == ["concealed", "still", "both"]
    filled, _ = fill_lost(picture, candidates(picture))
    assert error(filled, at(12), lower_half()) < error(at(12.15), at(12), lower_half()) / 2


def test_a_guess_that_the_intact_part_contradicts_is_dropped() -> None:
    picture = panning(concealed())
    picture.before[1].planes[0][:] = at(8, seed=4)[0]  # the picture before the anchor is of another scene
    chosen, _ = choose(picture, candidates(picture))
    assert "past" not in chosen and "future" in chosen


def test_the_first_picture_is_filled_from_the_next_key() -> None:
    picture = Lost(0, concealed(), lower_half(), [], [Neighbour(9, at(18))], [])
    filled, _ = fill_lost(picture, candidates(picture))
    inner = np.zeros(SIZE, bool)
    inner[52:88, 12:100] = True
    assert error(filled, at(16), inner) < 6 < error(concealed(), at(16), inner)


def test_without_any_neighbour_it_is_an_error() -> None:
    with pytest.raises(ValueError):
        candidates(Lost(0, None, lower_half(), [], [], []))


def test_vectors_are_moved_to_the_reference() -> None:
    field = later_motion(vectors(4.0), SIZE)
    assert field.shape == (*SIZE, 2)
    assert np.allclose(field[..., 0], 4, atol=0.01) and np.allclose(field[..., 1], 0, atol=0.01)


def test_blocks_of_b_pictures_tell_the_motion_across_them() -> None:
    back, on = vectors(3.0), vectors(-5.0)
    on["source"] = 1
    only = vectors(40.0)[:4]  # blocks with one reference say nothing about the other
    only["dst_x"] += 1000
    field = motion_through(np.concatenate([back, on, only]), SIZE)
    assert np.allclose(field[..., 0], 8, atol=0.01) and np.allclose(field[..., 1], 0, atol=0.01)


def test_known_motion_is_carried_into_the_rest() -> None:
    known = ~lower_half()
    deviation = np.zeros((*SIZE, 2), np.float32)
    deviation[:48] = (3, -1)
    assert np.allclose(carried_down(deviation, known), (3, -1), atol=0.05)


def test_chroma_moves_half_as_far() -> None:
    field = np.full((*SIZE, 2), 4.0, np.float32)
    small = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    assert (warp(small, field)[:, :60] == small[:, 2:62]).all()


def test_composed_keeps_what_is_not_lost() -> None:
    a, b = at(0), at(30)
    out = composed(a, b, lower_half())
    assert (out[0][:48] == a[0][:48]).all() and (out[0][48:] == b[0][48:]).all()
    assert out[1].shape == a[1].shape


def test_between_two_pictures_all_leaves_and_arrives_as_fast_as_it_moves_there() -> None:
    def shift(time: float) -> float:
        return time**2 / 10  # ever faster

    a, c, earlier, later = (Neighbour(t, at(shift(t))) for t in (2, 10, 1, 11))
    times, inside = range(3, 10), np.ones(at(0)[0].shape, bool)
    straight, bent = (list(on_the_way(a, c, times, *beside)) for beside in ((), (earlier, later)))
    errors = [[error(made, at(shift(t)), inside) for t, made in zip(times, way, strict=True)]
              for way in (straight, bent)]
    assert sum(errors[1]) < 0.5 * sum(errors[0])
