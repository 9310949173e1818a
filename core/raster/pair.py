"""An image before and an image after as one source of tiles, the one before made to fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .alignment import estimate_image_shift
from .clouds import CloudFinder
from .colour_matching import ColourMap, fit_colours, keep_colours
from .grid import Grid
from .placement import Placement
from .shadows import ShadowFinder
from .shift import NOTICED_M, Shift, describe_image_shift
from .source import RasterSource
from .warping import WarpedSource

_LOOK_PX = 2048  # a run on a small part of the images still looks so far for how they fit
_COVERED = 0.995  # a share from which coverage needs no mention


class PairSource:
    """Two images, read as one of all their bands: those before, then those after.

    It lies on the grid of the image after, has its size, and is valid where it is. What the image before
    does not show has the values that mean "nothing is known" to the network. Reading from one thread at a
    time is safe; no more than a window of either is in memory.

    Attributes:
        post: The image after.
        pre: The image before on the grid; none: there is none.
        shift: How far the image before lies from the one after; it is read accordingly if consistent.
        colours: What is done to the colours of the image before.
        grid: The one grid on which it is read.
        path: Of the image after.
        bands: Numbers of the bands before, in their file, then of those after, in theirs.
        notices: Sentences about what was assumed and corrected.
    """

    def __init__(
        self,
        post: RasterSource,
        grid: Grid,
        fill: Sequence[float] | NDArray[np.float32],
        pre: WarpedSource | None = None,
        *,
        shift: Shift | None = None,
        colours: ColourMap | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        """Use `fit_pair`.

        Args:
            post: The image after; left open.
            grid: Of `post`.
            fill: One value a band of the image before, for what it does not show.
            pre: The image before; left open.
            shift: That `pre` is already read by.
            colours: Applied to `pre`.
            notices: Of the fit.
        """
        self.post, self.pre, self.grid = post, pre, grid
        self._fill = np.asarray(fill, dtype=np.float32)
        self.shift = shift or Shift()
        self.colours = colours or keep_colours(len(self._fill))
        self._clouds, self._shadows = CloudFinder(post, grid), ShadowFinder(post, grid)
        self.path, self.dtype = post.path, post.dtype
        self.width, self.height = post.width, post.height
        self.crs, self.transform = post.crs, post.transform
        pre_bands = pre.placement.raster.bands if pre is not None else ()
        self.bands = (*pre_bands, *post.bands)
        self.notices = (*post.notices, *notices)

    @property
    def gsd_m(self) -> tuple[float, float]:
        """True ground metres per pixel (x, y) of the image after."""
        return self.post.gsd_m

    def read(
        self, grid: Grid, row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window; windows that overlap agree on the pixels that they share.

        Args:
            grid: The pair's own, as for any source.
            row: First row of the window in grid pixels; may be negative.
            col: First column, likewise.
            height: Rows; the window may stick out on any side.
            width: Columns.

        Returns:
            float32 (bands, height, width) in 0 to 1, and bool (height, width), where the image after is
            valid and shows neither cloud nor deep shadow. Where it is not valid its bands are 0; where the
            image before shows nothing, its bands are the fill.

        Raises:
            RasterError: A file is damaged.
        """
        count = len(self._fill)
        after, valid = self.post.read(grid, row, col, height, width)
        image = np.empty((count + len(after), height, width), dtype=np.float32)
        image[:count], _ = self.read_pre(row, col, height, width)
        image[count:] = after
        area = (row, col, height, width)
        return image, valid & ~self._clouds.mask(*area) & ~self._shadows.mask(*area)

    def read_pre(
        self, row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The bands before alone, as `read` gives them; and where the image before shows something."""
        if self.pre is None:
            image = np.empty((len(self._fill), height, width), dtype=np.float32)
            image[...] = self._fill[:, None, None]
            return image, np.zeros((height, width), dtype=bool)
        image, seen = self.pre.read(row, col, height, width)
        self.colours.apply(image)
        if not seen.all():
            image[:, ~seen] = self._fill[:, None]
        return image, seen


def fit_pair(
    post: RasterSource,
    pre: RasterSource | None,
    grid: Grid,
    fill: Sequence[float] | NDArray[np.float32],
    *,
    bounds_px: tuple[int, int, int, int] | None = None,
    align: bool = True,
) -> PairSource:
    """Make an image before fit the one after: grid, remaining shift, colours.

    Reads twice 49 windows of 256 px of both images: about two seconds.

    Args:
        post: The image after.
        pre: The image before; none: all of it is fill.
        grid: Of `post`.
        fill: One value a band of the image before.
        bounds_px: (top, left, bottom, right) of what the run covers, of which the fit has to be right;
            none: the whole grid.
        align: Estimate the shift, and correct it if it is consistent.

    Raises:
        RasterError: They cannot be laid over each other, do not overlap, or one is damaged.
    """
    if pre is None:
        return PairSource(post, grid, fill)
    placement = Placement(pre, grid, post)
    wanted = bounds_px or (0, 0, grid.height, grid.width)
    notices = [*pre.notices, *placement.notices, *_describe_coverage(placement, wanted)]
    bounds = _intersect(_grow(wanted), placement.bounds_px)
    warped, shift = WarpedSource(placement), Shift()

    def read_post(
        row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return post.read(grid, row, col, height, width)

    if align:
        shift = estimate_image_shift(warped.read, read_post, grid, bounds)
        warped = WarpedSource(placement, shift.offset_px)
        if not shift.is_consistent or shift.length_m >= NOTICED_M:
            notices.append(describe_image_shift(shift))
    colours = fit_colours(warped.read, read_post, bounds, len(pre.bands))
    return PairSource(post, grid, fill, warped, shift=shift, colours=colours, notices=notices)


def _describe_coverage(placement: Placement, bounds_px: tuple[int, int, int, int]) -> list[str]:
    share = placement.coverage(bounds_px)
    if share >= _COVERED:
        return []
    return [
        f"The image before covers {share:.0%} of what the one after covers: elsewhere damage is judged by "
        "the image after alone."
    ]


def _grow(bounds_px: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    top, left, bottom, right = bounds_px
    down, across = max(0, _LOOK_PX - (bottom - top)) // 2, max(0, _LOOK_PX - (right - left)) // 2
    return top - down, left - across, bottom + down, right + across


def _intersect(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """May be empty: its bottom lies over its top then."""
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])
