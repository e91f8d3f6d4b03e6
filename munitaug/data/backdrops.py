"""Colours for the synthetic numbers: a background picture and a stroke colour that can be told from it.

Floor 2: imports numpy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE_PX = 32
MIN_CONTRAST = 0.15
LUMINANCE = np.array([0.299, 0.587, 0.114])
_NOISE_CELLS = 4

FloatArray = npt.NDArray[np.float64]


def draw_backdrop(rng: np.random.Generator) -> FloatArray:
    """Gives a background, 32 x 32 x 3 in [0, 1]: one colour (p .4), a gradient (p .3) or soft noise (p .3)."""
    kind = rng.uniform()
    first, second = rng.uniform(size=(2, 3))
    if kind < 0.4:
        return np.broadcast_to(first, (SIDE_PX, SIDE_PX, 3))
    share = _gradient(rng) if kind < 0.7 else _soft_noise(rng)
    return np.asarray(first + (second - first) * share[:, :, None])


def draw_ink(rng: np.random.Generator, backdrop: FloatArray) -> FloatArray:
    """Gives a stroke colour (3 numbers in [0, 1]), lighter or darker than the mean background by over 0.15."""
    mean = float((backdrop @ LUMINANCE).mean())
    while True:
        ink = rng.uniform(size=3)
        if abs(float(ink @ LUMINANCE) - mean) > MIN_CONTRAST:
            return ink


def blur(picture: FloatArray, sigma_px: float) -> FloatArray:
    """Gives the 32 x 32 x 3 picture under a Gaussian blur, weights renormalised at the border."""
    if sigma_px < 0.05:
        return picture
    positions = np.arange(SIDE_PX)
    weight = np.exp(-0.5 * ((positions[:, None] - positions[None, :]) / sigma_px) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    along_rows = (weight @ picture.reshape(SIDE_PX, -1)).reshape(picture.shape)
    return np.asarray(weight @ along_rows)


def _gradient(rng: np.random.Generator) -> FloatArray:
    """Gives 32 x 32 numbers that rise linearly from 0 to 1 in a random direction."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    positions = np.linspace(-0.5, 0.5, SIDE_PX)
    slope = np.cos(angle) * positions[None, :] + np.sin(angle) * positions[:, None]
    return np.asarray((slope - slope.min()) / (slope.max() - slope.min()))


def _soft_noise(rng: np.random.Generator) -> FloatArray:
    """Gives 32 x 32 numbers in [0, 1]: 4 x 4 random ones, bilinearly interpolated."""
    coarse = rng.uniform(size=(_NOISE_CELLS, _NOISE_CELLS))
    positions = np.linspace(0.0, _NOISE_CELLS - 1.0, SIDE_PX)
    weight = np.clip(1.0 - np.abs(positions[:, None] - np.arange(_NOISE_CELLS)[None, :]), 0.0, 1.0)
    return np.asarray(weight @ coarse @ weight.T)
