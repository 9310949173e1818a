"""What is the class in a mask: how a folder's masks are coded, found out or told.

====================================  =====================================================================
values in the masks of a folder       what they mean
====================================  =====================================================================
0, 1                                  1 is the class
0, 255 (or 0 and one other value)     the other value is the class; soft edges count from half of it on
black and one colour                  the colour is the class; noisy ones (JPEG) count from half on
0, 1, 255, in one mask                1 is the class, 255 is unlabelled; `ExportTrainingTiles` writes these
0, 1 in some masks, 0, 255 in others  each mask by itself
more codes or colours                 class indices: the user has to say which code or colour is the class
====================================  =====================================================================

Beside a class that the user named by its code, 255 is unlabelled where all other codes are small (at most 64,
as in xBD and Pascal VOC). What a file itself states as nodata, other than 0, is unlabelled too. Transparency
is not looked at. In masks with a palette the codes are the indices, and colours can be named as well.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from ..errors import DatasetError, JobError
from ..raster.gdal import GDAL_ERRORS, bounded_gdal
from ..raster.palette import read_palette

IGNORE = 255
"""Label of pixels that count neither in the loss nor in a score."""

Histogram = Mapping[str, int]
"""Value of a mask to its number of pixels: ``"3"``, ``"#ffff00"``, ``"3#ffff00"`` (an index of a palette
and its colour); ``"~0"``, ``"~64"``, ``"~128"``, ``"~192"``: rare values from there on, if there are many."""

_MOST_VALUES = 24  # a mask with more values has noise or soft edges
_COMMON_SHARE = 0.005  # and then the values that are listed have at least this share
_HALF = 127
_GREATEST_INDEX = 64  # class indices end here
_EXTREMES = 0.9  # share of the pixels of a soft mask that are clearly black or clearly white
_NOISE = 16  # levels by which JPEG moves a flat colour
_FEW = 0.02  # a value in fewer of the masks than this is one of these masks' own
_FEW_MASKS = 5  # of fewer masks nothing is unlike the others
_MOST_ODD = 2  # a mask with more values of its own has soft edges
_STRAY_SHARE = 0.0005  # and a share under this may be a stray pixel
_NAMED_VALUES = 8
_COLOUR = re.compile(r"#?([0-9a-fA-F]{6})")

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskCoding:
    """What in a mask is the class. Without any of the first three, each mask says it by itself.

    Attributes:
        code: The class is this code.
        colour: The class has this colour.
        over: The class is what is brighter than this in any band.
        unlabelled: Pixels of this code are unlabelled.
        tolerance: Levels by which a band may differ from `colour`.
    """

    code: int | None = None
    colour: Colour | None = None
    over: int | None = None
    unlabelled: int | None = None
    tolerance: int = 0

    def __str__(self) -> str:
        """Such as ``1 is the class, 255 is unlabelled``."""
        if self.code is not None:
            text = f"{self.code} is the class"
        elif self.colour is not None:
            text = f"{_hex(self.colour)} is the class"
        elif self.over is not None:
            text = f"what is brighter than {self.over} is the class"
        else:
            text = "0/1 or 0/255, each mask by itself"
        return text if self.unlabelled is None else f"{text}, {self.unlabelled} is unlabelled"


@dataclass(frozen=True)
class MaskPixels:
    """A mask as its file holds it.

    Attributes:
        bands: uint16 (n, h, w): one band of codes, or the colour bands; equal bands are one.
        size: (height, width) of the file; (h, w) unless it was read with a step.
        unlabelled: bool (h, w): nodata as the file states it; none where it states none.
        palette: uint8 (256, 4): the colours of the codes, where there is a palette.
    """

    bands: NDArray[np.uint16]
    size: tuple[int, int]
    unlabelled: NDArray[np.bool_] | None = None
    palette: NDArray[np.uint8] | None = None


def unlisted_folders() -> rasterio.Env:
    """A context in which GDAL does not list the folder, of thousands perhaps, of each file that it opens."""
    return rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE")


def read_pixels(path: Path, step: int = 1, what: str = "mask") -> MaskPixels:
    """Read a mask, or every `step`-th of its rows and columns (from overviews where there are some).

    Args:
        path: Its file.
        step: See above.
        what: Call it by this name in errors.

    Raises:
        DatasetError: It cannot be read, or holds other than whole numbers.
    """
    try:
        with bounded_gdal():
            with unlisted_folders(), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(path)
            with dataset:
                colours = enumerate(dataset.colorinterp, 1)
                numbers = [i for i, c in colours if c != ColorInterp.alpha] or [1]
                size = (dataset.height, dataset.width)
                shape = (len(numbers), -(-dataset.height // step), -(-dataset.width // step))
                raw = dataset.read(numbers, out_shape=shape)
                palette = read_palette(dataset) if len(numbers) == 1 else None
                nodata = dataset.nodata
    except GDAL_ERRORS as error:
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise DatasetError(f"The {what} {path} cannot be read ({reason}): replace or remove it.") from error
    unlabelled = None
    if nodata is not None and np.isnan(nodata):
        unlabelled = np.isnan(raw).any(axis=0)
        raw = np.nan_to_num(raw)
    elif nodata:
        unlabelled = (raw == nodata).all(axis=0)
        raw = np.where(unlabelled, 0, raw)
    if raw.dtype != np.uint8 and not (np.mod(raw, 1) == 0).all():
        raise DatasetError(
            f"The {what} {path} holds fractions: write it in whole numbers, such as 0 and 1, or remove it."
        )
    if raw.dtype not in (np.uint8, np.uint16) and not ((raw >= 0) & (raw <= 65535)).all():
        raise DatasetError(
            f"The {what} {path} holds numbers outside of 0 to 65535: write it anew or remove it."
        )
    if len(raw) > 1 and (raw == raw[0]).all():
        raw = raw[:1]
    return MaskPixels(raw.astype(np.uint16), size, unlabelled, palette)


def read_codes(path: Path) -> NDArray[np.uint8]:
    """The codes of a mask, uint8 (h, w): the highest of its colour bands.

    Raises:
        DatasetError: It cannot be read.
    """
    codes: NDArray[np.uint8] = read_pixels(path).bands.max(axis=0).astype(np.uint8)
    return codes


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask as bool (h, w), whether it is coded 0/1 or 0/255, by itself.

    Raises:
        DatasetError: It cannot be read.
    """
    is_class: NDArray[np.bool_] = label_pixels(read_pixels(path), MaskCoding()) == 1
    return is_class


def label_pixels(pixels: MaskPixels, coding: MaskCoding) -> NDArray[np.uint8]:
    """Labels uint8 (h, w): 1 the class, 0 the rest, `IGNORE` unlabelled."""
    bands = pixels.bands
    brightest = bands.max(axis=0)
    if coding.code is not None:
        is_class = (bands == coding.code).all(axis=0)
    elif coding.colour is not None:
        colours = pixels.palette[bands[0], :3].transpose(2, 0, 1) if pixels.palette is not None else bands
        wanted = np.array(coding.colour, dtype=np.int32)[:, None, None]
        is_class = (np.abs(colours[:3].astype(np.int32) - wanted) <= coding.tolerance).all(axis=0)
    elif coding.over is not None:
        is_class = brightest > coding.over
    else:
        is_class = brightest > (0 if brightest.max(initial=0) <= 1 else _HALF)
    labels: NDArray[np.uint8] = is_class.astype(np.uint8)
    if coding.unlabelled is not None:
        labels[(brightest == coding.unlabelled) & ~is_class] = IGNORE
    if pixels.unlabelled is not None:
        labels[pixels.unlabelled] = IGNORE
    return labels


# ------------------------------------------------------------------------------------- what is in a mask


def count_values(pixels: MaskPixels, valid: NDArray[np.bool_] | None = None) -> dict[str, int]:
    """How often each value is among the labelled (and `valid`) pixels."""
    counted = None if pixels.unlabelled is None else ~pixels.unlabelled
    if valid is not None:
        counted = valid if counted is None else counted & valid
    bands = pixels.bands.reshape(len(pixels.bands), -1) if counted is None else pixels.bands[:, counted]
    if len(bands) == 1:
        counts = _count_codes(bands[0])
        names = {code: _name(code, pixels.palette) for code in counts}
        return _shorten({names[v]: n for v, n in counts.items()}, {name: v for v, name in names.items()})
    return _count_colours(bands[:3] if len(bands) >= 3 else bands[[0, 1, 1]])


def _count_codes(codes: NDArray[np.uint16]) -> dict[int, int]:
    counts = {code: int(np.count_nonzero(codes == code)) for code in (0, 1, 255)}
    if sum(counts.values()) < codes.size:  # other codes too, which is rarer and takes longer
        numbers = np.bincount(codes)
        counts = {code: int(numbers[code]) for code in np.flatnonzero(numbers).tolist()}
    return {code: number for code, number in counts.items() if number}


def _count_colours(bands: NDArray[np.uint16]) -> dict[str, int]:
    """Colours one after the other: a clean mask has few, and sorting its pixels would take far longer."""
    packed = (bands[0].astype(np.uint32) << 16) | (bands[1].astype(np.uint32) << 8) | bands[2]
    brightest = bands.max(axis=0)
    counts: dict[str, int] = {}
    while len(packed) and len(counts) < _MOST_VALUES:
        others = packed != packed[0]
        counts[_colour_name(int(packed[0]))] = len(packed) - int(others.sum())
        packed, brightest = packed[others], brightest[others]
    if not len(packed):
        return counts
    colours, numbers = np.unique(packed, return_counts=True)
    for colour, number in zip(colours.tolist(), numbers.tolist(), strict=True):
        counts[_colour_name(colour)] = number
    highest = {name: max(_colour_of(name) or (0,)) for name in counts}
    return _shorten(counts, highest)


def _shorten(counts: dict[str, int], brightness: Mapping[str, int]) -> dict[str, int]:
    """Put the rare values of a mask with many into four drawers by their brightness."""
    if len(counts) <= _MOST_VALUES:
        return counts
    total = sum(counts.values())
    kept: Counter[str] = Counter()
    for name, number in counts.items():
        is_kept = number >= _COMMON_SHARE * total
        kept[name if is_kept else f"~{min(brightness[name] // 64, 3) * 64}"] += number
    return dict(kept)


def _name(code: int, palette: NDArray[np.uint8] | None) -> str:
    return str(code) if palette is None or code > 255 else f"{code}{_hex(palette[code, :3].tolist())}"


def _colour_name(packed: int) -> str:
    red, green, blue = packed >> 16, packed >> 8 & 255, packed & 255
    return str(red) if red == green == blue else _hex((red, green, blue))


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _code_of(name: str) -> int | None:
    """The code that a value has; none for a colour. Drawers have their least."""
    text = name.removeprefix("~").partition("#")[0]
    return int(text) if text else None


def _colour_of(name: str) -> Colour | None:
    """The colour that a value has; none for the code of something else than a grey."""
    _, mark, digits = name.partition("#")
    if mark:
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    code = _code_of(name)
    return (code, code, code) if code is not None and code <= 255 else None


def _is_bright(name: str, over: int) -> bool:
    colour = _colour_of(name)
    return (max(colour) if colour is not None and "#" in name else _code_of(name) or 0) > over


# ------------------------------------------------------------------------------- how a folder is coded


def choose_coding(histograms: Sequence[Histogram], mask_value: str, where: str) -> MaskCoding:
    """How the masks of a folder are coded; see the table above.

    Args:
        histograms: Of its masks.
        mask_value: What is the class: a code (``3``) or a colour (``#ffff00``); empty: it is found out.
        where: Name of the folder, for the sentences.

    Raises:
        JobError: `mask_value` is no code and no colour.
        DatasetError: No mask holds it, or there are several classes and it is not said which one is meant.
    """
    total: Counter[str] = Counter()
    for histogram in histograms:
        total.update(histogram)
    if mask_value:
        return _told_coding(total, mask_value, where)
    common = find_common_values(histograms)
    found = _find_coding(Counter({n: total[n] for n in common}), histograms)
    if found is None or not any(_is_class(name, found) for name in common):
        found = _find_coding(total, histograms) or found  # the class may be in few tiles only
    if found is None:
        raise DatasetError(
            f"The masks of {where} hold several classes: {list_values(total)}. Say which value is the one to "
            "learn, by its code (such as 3) or its colour (such as #ffff00)."
        )
    return found


def find_common_values(histograms: Sequence[Histogram]) -> set[str]:
    """The values that are in more than one or two of a folder's masks, or all where there are few masks."""
    tiles = Counter(name for histogram in histograms for name in histogram)
    few = max(2.0, _FEW * len(histograms)) if len(histograms) >= _FEW_MASKS else 1.0
    return {name for name, number in tiles.items() if number >= few}


def find_unknown_value(
    histogram: Histogram, coding: MaskCoding, common: Collection[str], is_noisy: bool
) -> str:
    """The strongest value of a mask that does not fit how its folder was found to be coded; mostly none.

    Args:
        histogram: Of the mask.
        coding: As it was found out; what a user said is not questioned.
        common: The values that are in more than few of the folder's masks.
        is_noisy: Whether masks of the folder have soft edges or the noise of JPEG.
    """
    total = sum(histogram.values())
    if coding.code is not None:
        known = {0, coding.code, coding.unlabelled}
        odd = {n: c for n, c in histogram.items() if _code_of(n) not in known}
    elif coding.over is not None:
        has_class = any(_is_bright(n, coding.over) for n in histogram)
        floor = _NOISE if is_noisy else 0
        between = {
            n: c for n, c in histogram.items() if _is_bright(n, floor) and not _is_bright(n, coding.over)
        }
        odd = between if not has_class or sum(between.values()) > (1 - _EXTREMES) * total else {}
        rare = {n: c for n, c in between.items() if n not in common}
        if not is_noisy and len(rare) <= _MOST_ODD and sum(rare.values()) > _STRAY_SHARE * total:
            odd = odd or rare  # soft edges have more values
    elif coding.colour is not None:
        odd = {n: c for n, c in histogram.items() if _code_of(n) != 0 and not _is_class(n, coding)}
    else:
        odd = {}
    return max(odd, key=lambda n: odd[n]) if odd else ""


def count_class(histogram: Histogram, coding: MaskCoding) -> tuple[int, int]:
    """Pixels of the class, and labelled pixels, of a mask."""
    if coding == MaskCoding():
        over = _HALF if any(_is_bright(n, 1) for n in histogram) else 0
        coding = MaskCoding(over=over)
    of_class = sum(c for n, c in histogram.items() if _is_class(n, coding))
    unlabelled = sum(
        c
        for n, c in histogram.items()
        if coding.unlabelled is not None and _code_of(n) == coding.unlabelled and not _is_class(n, coding)
    )
    return of_class, sum(histogram.values()) - unlabelled


def is_noisy(histogram: Histogram) -> bool:
    """Whether a mask has so many values that they are soft edges, or the noise of JPEG."""
    return any(name.startswith("~") for name in histogram)


def list_values(total: Mapping[str, int]) -> str:
    """The values of masks with their shares, the most frequent first."""
    pixels = sum(total.values()) or 1
    names = sorted(total, key=lambda n: -total[n])
    listed = [f"{_in_words(n)} ({_percent(total[n] / pixels)})" for n in names[:_NAMED_VALUES]]
    return ", ".join(listed) + (
        f" and {len(names) - _NAMED_VALUES} more" if len(names) > _NAMED_VALUES else ""
    )


def _in_words(name: str) -> str:
    if name.startswith("~"):
        return f"others from {name[1:]} to {int(name[1:]) + 63}"
    code, mark, colour = name.partition("#")
    return f"{code} = #{colour}" if code and mark else name


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "under 0.1 %"


def _told_coding(total: Counter[str], mask_value: str, where: str) -> MaskCoding:
    code, colour = parse_mask_value(mask_value)
    if colour is not None:
        near = [n for n in total if _is_class(n, MaskCoding(colour=colour, tolerance=_NOISE))]
        exact = [n for n in near if _colour_of(n) == colour]
        if near:
            return MaskCoding(colour=colour, tolerance=0 if exact and not is_noisy(total) else _NOISE)
    elif any(_code_of(n) == code and not n.startswith("~") for n in total):
        if code is not None and code > _HALF and is_noisy(total):
            return MaskCoding(over=_HALF)  # 255 was said of white on black with soft edges
        others = {c for n in total if (c := _code_of(n)) is not None and c not in (code, 255)}
        has_unlabelled = code != 255 and 0 <= max(others, default=-1) <= _GREATEST_INDEX
        is_there = any(_code_of(n) == 255 for n in total)
        return MaskCoding(code=code, unlabelled=255 if has_unlabelled and is_there else None)
    raise DatasetError(
        f"No mask of {where} holds the value {mask_value}; they hold {list_values(total)}: name one of these."
    )


def parse_mask_value(text: str) -> tuple[int | None, Colour | None]:
    """The code, or the colour, that a user means by ``3`` or ``#ffff00``.

    Raises:
        JobError: It is neither.
    """
    stated = text.strip()
    if stated.isdecimal() and not stated.startswith("#") and int(stated) <= 65535:
        return int(stated), None
    found = _COLOUR.fullmatch(stated)
    if found is None:
        raise JobError(f"{text!r} is no value of a mask: give a code such as 3, or a colour such as #ffff00.")
    return None, _colour_of(f"#{found[1]}")


def _find_coding(total: Counter[str], histograms: Sequence[Histogram]) -> MaskCoding | None:
    """The coding that these values of all masks speak for; none: it has to be told."""
    if any(_code_of(name) is None for name in total):
        return _find_colour_coding(total)
    codes = {c for n in total if (c := _code_of(n)) is not None}
    others = codes - {0}
    if not is_noisy(total):
        if others <= {1}:
            return MaskCoding(code=1)
        if others == {1, 255}:
            together = any({"1", "255"} <= {n.partition("#")[0] for n in h} for h in histograms)
            return MaskCoding(code=1, unlabelled=255) if together else MaskCoding()
        if len(others) == 1:
            return MaskCoding(over=max(others) // 2)
        if len(others) <= _MOST_ODD:
            return None
    if max(others) <= _GREATEST_INDEX or max(others) > 255:
        return None
    extreme = sum(c for n, c in total.items() if not 64 <= (_code_of(n) or 0) < 192)
    return MaskCoding(over=_HALF) if extreme > _EXTREMES * sum(total.values()) else None


def _find_colour_coding(total: Counter[str]) -> MaskCoding | None:
    if not is_noisy(total):
        others = [n for n in total if _code_of(n) != 0]
        return MaskCoding(colour=_colour_of(others[0])) if len(others) == 1 else None
    bright = [c for n in total if "#" in n and _is_bright(n, _HALF) and (c := _colour_of(n)) is not None]
    spread = max((max(band) - min(band) for band in zip(*bright, strict=True)), default=0)
    return MaskCoding(over=_HALF) if spread <= 4 * _NOISE else None


def _is_class(name: str, coding: MaskCoding) -> bool:
    if coding.code is not None:
        return _code_of(name) == coding.code and not name.startswith("~")
    if coding.colour is not None:
        colour = None if name.startswith("~") else _colour_of(name)
        return colour is not None and all(
            abs(a - b) <= coding.tolerance for a, b in zip(colour, coding.colour, strict=True)
        )
    return _is_bright(name, _HALF if coding.over is None else coding.over)
