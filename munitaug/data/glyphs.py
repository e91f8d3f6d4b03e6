"""Printed digits on a canvas: the fonts that matplotlib ships, drawn, then bent like handwriting.

Floor 2: imports numpy and PIL; matplotlib lazily, for its font files only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

CANVAS_PX = 128
FONT_FILES = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"{name}.ttf" for name in ("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")),
)
"""The 21 text fonts; symbol fonts (cmsy10, cmex10, STIXSiz*), old-style figures (cmmi10), the Display
cuts and LastResort are left out: they draw digits as blanks, boxes or figures of uneven height."""

_FIELD_CELLS = 32
_FIELD_SIGMA_CELLS = 3.0
_SOURCE_WIDTH_PX, _SOURCE_HEIGHT_PX = 320, 160

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Typeset:
    """How a string is drawn.

    Args:
        text: digits, at most three.
        centred: position in ``text`` of the digit that stands in the middle of the canvas.
        font: index into :data:`FONT_FILES`.
        size_px: font size, on a canvas of 128 px.
        stroke_px: width that is added around every line.
    """

    text: str
    centred: int
    font: int
    size_px: int
    stroke_px: int


@dataclass(frozen=True)
class Bend:
    """How a drawn canvas is deformed.

    Args:
        rotation_deg: anti-clockwise.
        shear: horizontal, px per px of height.
        scale: (x, y) factors.
        shift_px: (x, y) on the canvas of 128 px.
        field: 2 x 32 x 32 noise, smoothed and scaled to ``elastic_px``.
        elastic_px: standard deviation of the elastic displacement.
    """

    rotation_deg: float
    shear: float
    scale: tuple[float, float]
    shift_px: tuple[float, float]
    field: FloatArray
    elastic_px: float


def draw_bend(rng: np.random.Generator, max_shift_px: float = 0.0) -> Bend:
    """Gives a random deformation, within the limits of both protocols of ``synthetic-digits``."""
    scale_x, scale_y = rng.uniform(0.8, 1.25, size=2)
    shift_x, shift_y = rng.uniform(-max_shift_px, max_shift_px, size=2)
    return Bend(
        rotation_deg=float(np.clip(rng.normal(0.0, 7.5), -15.0, 15.0)),
        shear=float(rng.uniform(-0.25, 0.25)),
        scale=(float(scale_x), float(scale_y)),
        shift_px=(float(shift_x), float(shift_y)),
        field=rng.standard_normal((2, _FIELD_CELLS, _FIELD_CELLS), dtype=np.float32),
        elastic_px=float(rng.uniform(0.0, 14.0)) * 0.35,
    )


def render_glyphs(typeset: Typeset, bend: Bend) -> FloatArray:
    """Gives the ink of a bent string: 128 x 128 in [0, 1], 1 where ink is.

    Raises:
        ImportError: matplotlib, which brings the fonts, is not installed.
    """
    return _sample(_draw(typeset), *_source_positions(bend))


def _draw(typeset: Typeset) -> FloatArray:
    """Gives the unbent string on a wide canvas (160 x 320 in [0, 1]), the centred digit in its middle.

    Its box across is the space that the font gives it, so slanted digits may stand a few px to one side.
    """
    font = _font(typeset.font, typeset.size_px)
    left, top, right, bottom = font.getbbox(typeset.text[typeset.centred], anchor="ls")
    before = font.getlength(typeset.text[: typeset.centred])
    start = (_SOURCE_WIDTH_PX / 2 - before - (left + right) / 2, _SOURCE_HEIGHT_PX / 2 - (top + bottom) / 2)
    canvas = Image.new("L", (_SOURCE_WIDTH_PX, _SOURCE_HEIGHT_PX))
    ImageDraw.Draw(canvas).text(start, typeset.text, fill=255, font=font, anchor="ls", stroke_width=typeset.stroke_px)
    return np.asarray(canvas, dtype=np.float32) / np.float32(255.0)


@lru_cache(maxsize=1024)
def _font(index: int, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_folder() / FONT_FILES[index], size_px, layout_engine=ImageFont.Layout.BASIC)


@cache
def _font_folder() -> Path:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            'synthetic-digits draws with the fonts of matplotlib, which is missing: pip install "munitaug[benchmarks]"'
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _source_positions(bend: Bend) -> tuple[FloatArray, FloatArray]:
    """Gives, for each of 128 x 128 canvas pixels, the (x, y) offset from the centre of the drawing to look at."""
    angle = np.deg2rad(bend.rotation_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    forward = turn @ np.array([[1.0, bend.shear], [0.0, 1.0]]) @ np.diag(bend.scale)
    backward = np.linalg.inv(forward).astype(np.float32)
    middle = (CANVAS_PX - 1) / 2
    x = (np.arange(CANVAS_PX, dtype=np.float32) - np.float32(middle + bend.shift_px[0]))[None, :]
    y = (np.arange(CANVAS_PX, dtype=np.float32) - np.float32(middle + bend.shift_px[1]))[:, None]
    displacement = _smooth(bend.field) * np.float32(bend.elastic_px)
    return (
        backward[0, 0] * x + backward[0, 1] * y + displacement[0],
        backward[1, 0] * x + backward[1, 1] * y + displacement[1],
    )


@cache
def _smoothing() -> FloatArray:
    """Gives the 128 x 32 matrix that smooths a line of noise cells and reads it at every canvas pixel.

    Rows have unit energy, so smoothed standard normal noise keeps a standard deviation of 1.
    """
    pixels = (np.arange(CANVAS_PX) + 0.5) * _FIELD_CELLS / CANVAS_PX
    distance = pixels[:, None] - (np.arange(_FIELD_CELLS) + 0.5)[None, :]
    weight = np.exp(-0.5 * (distance / _FIELD_SIGMA_CELLS) ** 2)
    energy = np.sqrt((weight**2).sum(axis=1, keepdims=True))
    return np.asarray(weight / energy, dtype=np.float32)


def _smooth(field: FloatArray) -> FloatArray:
    """Gives 2 x 128 x 128 smooth noise of standard deviation 1 of 2 x 32 x 32 noise cells.

    In strips of 32 columns: larger products are shared among the threads of BLAS, which on a busy machine wait for
    one another ten times longer than they work.
    """
    weight = _smoothing()
    rows = weight @ field
    strips = [rows @ weight[left : left + _FIELD_CELLS].T for left in range(0, CANVAS_PX, _FIELD_CELLS)]
    return np.concatenate(strips, axis=2)


def _sample(drawing: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Gives the drawing bilinearly at offsets from its centre; its border is blank, so outside is blank too."""
    height, width = drawing.shape
    column = np.clip(x + np.float32((width - 1) / 2), 0, width - 1.001)
    row = np.clip(y + np.float32((height - 1) / 2), 0, height - 1.001)
    left, top = column.astype(np.intp), row.astype(np.intp)
    across, down = column - left.astype(np.float32), row - top.astype(np.float32)
    corner = top * width + left
    flat = drawing.reshape(-1)
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + width] * (1 - across) + flat[corner + width + 1] * across
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)
