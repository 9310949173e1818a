"""Colours of the image before are brought to those of the one after, and no further."""

from __future__ import annotations

import numpy as np
import pytest

from aftermap.core.raster.colour_matching import ColourMap, fit_colours, keep_colours, match_colours

from .towns import draw_town


def pixels(seed: int = 0) -> np.ndarray:
    return draw_town(256, seed)[0].reshape(3, -1) / 255.0


def mapped(colours: ColourMap, values: np.ndarray) -> np.ndarray:
    image = values.astype(np.float32)[:, None]
    colours.apply(image)
    return image[:, 0]


@pytest.mark.parametrize(
    "darken", [lambda v: v**1.8 * 0.8, lambda v: 0.5 * v, lambda v: 0.3 + 0.6 * v, lambda v: v]
)
def test_other_light_is_undone(darken: object) -> None:
    values = pixels()
    changed = np.round(darken(values) * 255) / 255  # type: ignore[operator]
    assert np.abs(mapped(match_colours(changed, values), changed) - values).mean() < 0.01


def test_what_burnt_has_no_say() -> None:
    before = pixels()
    after = np.where(np.arange(before.shape[1]) < 0.4 * before.shape[1], 0.05 * before, before)
    assert np.abs(mapped(match_colours(before, after), before) - before).mean() < 0.01


def test_a_scene_in_which_all_is_grey_after_does_not_lose_its_contrast() -> None:
    before = pixels()
    colours = match_colours(before, np.full_like(before, 0.5))
    assert (mapped(colours, before).std(axis=1) > 0.35 * before.std(axis=1)).all()


def test_the_order_of_values_stays_and_none_leaves_the_range() -> None:
    ramp = np.tile(np.linspace(0, 1, 300), (3, 1))
    random = np.random.default_rng(0)
    for _ in range(20):
        before, after = (random.beta(*random.uniform(0.2, 5, 2), (3, 2000)) for _ in range(2))
        line = mapped(match_colours(before, after), ramp)
        assert (np.diff(line, axis=1) >= -1e-6).all()
        assert (line >= 0.0).all()
        assert (line <= 1.0).all()


def test_few_pixels_say_nothing() -> None:
    ramp = np.tile(np.linspace(0, 1, 100), (3, 1))
    assert np.allclose(mapped(match_colours(ramp, 0.5 * ramp), ramp), ramp)
    assert np.allclose(mapped(keep_colours(3), ramp), ramp)


def test_only_what_both_images_show_is_compared() -> None:
    before = draw_town(256)[0] / 255.0
    seen = np.zeros((256, 256), dtype=bool)
    seen[:, :200] = True
    after = np.where(seen, 0.8 * before, 1.0)

    def read(image: np.ndarray, valid: np.ndarray):  # type: ignore[no-untyped-def]
        def window(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
            part = np.s_[row : row + height, col : col + width]
            return image[:, part[0], part[1]].astype(np.float32), valid[part]

        return window

    whole = (0, 0, 256, 256)
    colours = fit_colours(read(before, np.ones_like(seen)), read(after, seen), whole, 3)
    flat = before.reshape(3, -1)
    assert np.abs(mapped(colours, flat) - 0.8 * flat).mean() < 0.02
    nothing = fit_colours(read(before, ~seen), read(after, seen), whole, 3)
    assert np.allclose(mapped(nothing, flat), flat)
