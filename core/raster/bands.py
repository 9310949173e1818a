"""Which bands of a raster a network sees, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from rasterio.enums import ColorInterp

from ..errors import JobError, ModelError

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def choose_bands(
    path: str, interpretation: Sequence[ColorInterp], wanted: Sequence[int], band_count: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Choose the bands of a raster for a network of `band_count` bands.

    Without `wanted`: red, green and blue wherever the raster says that they stand, then its other bands
    in order; where it does not say, its first bands. Transparency (alpha) is never a band of the image.
    A raster of one band is shown as equal bands.

    Args:
        path: For messages.
        interpretation: What the raster says of each of its bands.
        wanted: Band numbers from 1, in the network's order; empty: choose.
        band_count: How many bands the network sees.

    Returns:
        The band numbers, `band_count` of them, and sentences that the user should read.

    Raises:
        JobError: A band that was asked for is not there, or is the transparency.
        ModelError: The raster has fewer bands than the network needs.
    """
    image = [n for n, colour in enumerate(interpretation, start=1) if colour is not ColorInterp.alpha]
    if wanted:
        _check(path, wanted, image, len(interpretation))
        chosen = tuple(wanted)
    else:
        named = [interpretation.index(c) + 1 for c in _COLOURS if c in interpretation]
        if len(named) < len(_COLOURS) or band_count < len(_COLOURS):
            named = []
        chosen = tuple(named + [n for n in image if n not in named])[:band_count]
    if len(chosen) == 1 and band_count > 1:
        return chosen * band_count, (
            f"{path} is seen in one band (grey), shown to the model as {band_count} equal bands.",
        )
    if len(chosen) != band_count:
        raise ModelError(
            f"The model sees {band_count} bands and {path} offers {len(chosen)}: choose {band_count} bands, "
            "one band (shown as equal ones), or another model."
        )
    stated = all(colour in interpretation for colour in _COLOURS)
    if not wanted and not stated and len(image) > band_count:
        listed = ", ".join(str(n) for n in chosen)
        return chosen, (
            f"{path} does not say which of its {len(image)} bands are red, green and blue: bands {listed} "
            "are used in this order; choose others if the colours are wrong.",
        )
    return chosen, ()


def _check(path: str, wanted: Sequence[int], image: Sequence[int], count: int) -> None:
    for band in wanted:
        if not 1 <= band <= count:
            raise JobError(f"{path} has no band {band}: choose from 1 to {count}.")
        if band not in image:
            raise JobError(f"Band {band} of {path} is its transparency (alpha), not imagery: choose another.")
