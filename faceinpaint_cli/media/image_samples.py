"""Arithmetic on stored samples that several picture formats share."""

from __future__ import annotations

import numpy as np
from PIL import Image


def full(dtype: np.dtype) -> int:
    """White: 255 or 65535."""
    return int(np.iinfo(dtype).max)


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) unsigned to (...) luma of the same type, by the weights of BT.601; exact where R = G = B."""
    weights = np.array([299, 587, 114], np.uint32)
    return ((rgb.astype(np.uint32) @ weights + 500) // 1000).astype(rgb.dtype)


def scale_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of 1, 2, 4, 8 or 16 bits to the full range of uint8 (up to 8 bits) or uint16."""
    return samples if bits >= 8 else samples * np.uint8(255 // (2**bits - 1))


def reduce_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `scale_bits`, to the nearest level."""
    if bits >= 8:
        return samples
    step = 255 // (2**bits - 1)
    return ((samples.astype(np.uint16) + step // 2) // step).astype(np.uint8)


def unpack_bits(packed: np.ndarray, bits: int, width: int) -> np.ndarray:
    """(H, bytes) rows of samples of 1, 2, 4 or 8 bits, most significant first, to (H, width) values."""
    if bits == 8:
        return packed[:, :width]
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    values = packed[:, :, None] >> shifts & np.uint8(2**bits - 1)
    return values.reshape(len(packed), -1)[:, :width]


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `unpack_bits`, the last byte of each row filled up with zeros."""
    if bits == 8:
        return values
    per_byte = 8 // bits
    values = np.pad(values, ((0, 0), (0, -values.shape[1] % per_byte)))
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return np.bitwise_or.reduce(values.reshape(len(values), -1, per_byte) << shifts, axis=2)


def into_palette(indices: np.ndarray, palette: np.ndarray, colours: np.ndarray,
                 where: np.ndarray, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Paint `colours` (N, C) at the N true places of `where` (H, W) into a picture of palette indices.

    Palette entries that no other pixel uses, and places up to `size`, take new colours (median cut of those
    wanted), so a picture of few colours still gets a fill of many; beyond that each pixel gets the nearest
    entry. A palette of greys gets greys. Where C is 4 the last channel is alpha, and an entry serves only
    pixels of exactly its alpha.
    Returns indices (H, W) uint8 and a palette (up to `size`, C) uint8 in which every entry that is in use
    outside `where` is where it was.
    """
    if (palette[:, :3] == palette[:, :1]).all():
        colours = np.column_stack([np.repeat(grey_of(colours[:, :3])[:, None], 3, axis=1), colours[:, 3:]])
    kept = np.zeros(size, bool)
    kept[np.unique(indices[~where])] = True
    table = np.zeros((size, palette.shape[1]), np.uint8)
    table[: len(palette)] = palette
    usable = kept | (np.arange(size) < len(palette))
    free = list(np.flatnonzero(~kept))
    distinct, inverse = np.unique(colours, axis=0, return_inverse=True)
    alphas = np.unique(distinct[:, 3:], axis=0)
    for alpha in alphas:
        members = distinct[(distinct[:, 3:] == alpha).all(axis=1)]
        slots, free = free[: len(free) // len(alphas)], free[len(free) // len(alphas):]
        if slots:
            new = _median_cut(members[:, :3], len(slots))
            table[slots[: len(new)], :3] = new
            table[slots[: len(new)], 3:] = alpha
            usable[slots[: len(new)]] = True
    chosen = _nearest(distinct, table, usable)
    result = indices.astype(np.uint8, copy=True)
    result[where] = chosen[inverse.reshape(-1)]
    return result, table[: max(len(palette), int(result.max(initial=0)) + 1)]


def _median_cut(colours: np.ndarray, count: int) -> np.ndarray:
    if len(colours) <= count:
        return colours
    row = Image.fromarray(np.ascontiguousarray(colours[None]))
    reduced = row.quantize(count, method=Image.Quantize.MEDIANCUT)
    flat = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
    return flat[: count]


def _nearest(colours: np.ndarray, table: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """For each of (N, C) colours the usable entry of `table` of its alpha that is nearest in RGB."""
    chosen = np.empty(len(colours), np.uint8)
    for start in range(0, len(colours), 4096):
        part = colours[start: start + 4096, None].astype(np.int32)
        distance = ((part[..., :3] - table[:, :3]) ** 2).sum(axis=2)
        wrong_alpha = (part[..., 3:] != table[:, 3:]).any(axis=2)
        chosen[start: start + 4096] = (distance + wrong_alpha * 2**20 + ~usable * 2**24).argmin(axis=1)
    return chosen
