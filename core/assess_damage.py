"""Damage of buildings, from an image after an event and, if there is one, an image before."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .building_assessment import PlacedFootprints, assess_buildings, describe_levels, move_onto_image
from .cards import find_damage_package, heads_of
from .damage_preview import DamagePreview, Shown
from .errors import JobError
from .jobs import AssessDamage, DetectBuildings, Event, Partial, Progress, Result, Warning
from .manifest import describe_model
from .outputs import check_destinations
from .progress import Span, follow, plan_spans
from .raster.acquisition import Acquisition, read_acquisition
from .raster.local_shift import ShiftField, describe_footprint_field
from .raster.pair import fit_pair
from .raster.shift import NOTICED_M, Shift, describe_windows
from .raster.source import open_source
from .raster_steps import (
    Scene,
    check_not_negative,
    check_scratch_space,
    describe_grid,
    describe_probability,
    follow_windows,
    name_destinations,
    open_manifest,
    plan_scene,
    predict,
    prediction_identity,
    prepare_scene,
    put_in_place,
    write_probability,
)
from .runs import WorkFolder, file_identity, open_work
from .vector.buildings import vectorize_buildings
from .vector.damage_layer import (
    Assessment,
    Origin,
    sum_up,
    write_damage_layer,
    write_summary,
)
from .vector.footprint_input import Footprints, onto_pixels, read_footprints

TASK = "damage"
_ENDINGS = ("_building_damage", "_damage_probability", "_damage_summary")
_WEIGHTS = {
    "fit": 0.02,
    "load": 0.03,
    "predict": 0.75,
    "raster": 0.05,
    "trace": 0.05,
    "pool": 0.07,
    "place": 0.03,
}
_FURTHEST_NUDGE_M = 100.0


def assess_damage(job: AssessDamage) -> Generator[Event, None, None]:
    """Assess the damage of every building.

    Raises:
        AftermapError: What is wrong with the job, the rasters, the footprints, the model or the outputs.
    """

    began = time.monotonic()
    _check_parameters(job)
    destinations = name_destinations(
        {"buildings": job.output_buildings, "damage": job.output_damage, "summary": job.output_summary},
        _ENDINGS,
        "damage",
    )
    check_destinations(destinations, (job.post, job.pre, job.footprints, job.aoi))
    package = find_damage_package(job.model, [Path(folder) for folder in job.model_folders])
    card = package.card
    bands = len(card.bands) // 2
    look = _look_at_post(job)
    with contextlib.ExitStack() as opened:
        post = opened.enter_context(
            open_source(job.post, bands=job.bands, band_count=bands, gsd_m=job.gsd_m, crs=job.crs)
        )
        pre = None
        if job.pre:
            pre = opened.enter_context(
                open_source(job.pre, bands=job.pre_bands, band_count=bands, crs=job.pre_crs)
            )
        taken = _when_taken(job)
        yield from _check_dates(taken)
        scene = yield from prepare_scene(look, package, post)
        area = _plan_area_first(job, scene)
        spans = _plan_progress(scene, area)
        footprints = _read_footprints(job, scene)
        yield spans["fit"].at(0.0, "Fitting the images to each other")
        fill = card.radiometry["mean"][:bands]
        pair = fit_pair(post, pre, scene.grid, fill, bounds_px=scene.region.bounds_px, align=job.align)
        yield from (Warning(notice) for notice in pair.notices if notice not in post.notices)
        scene = dataclasses.replace(scene, source=pair)
        area = area and dataclasses.replace(area, source=pair)
        with open_work(_identity(job, look, scene, area), cache=job.cache, resume=job.resume) as work:
            heads = heads_of(card)
            check_scratch_space(
                work, scene.grid, destinations, output="damage", heads=len(heads) * (2 if area else 1)
            )
            manifest = open_manifest(
                work, job, {"post": job.post, "pre": job.pre, "footprints": job.footprints}
            )
            manifest |= {
                "model": describe_model(card),
                "grid": describe_grid(scene.grid, post),
                "fit": {
                    "moved_m": pair.shift.moved_m,
                    "windows": describe_windows(pair.shift, scene.grid),
                },
            }
            origin = Origin(card.name, taken["pre"].date, taken["post"].date, taken["post"].off_nadir)
            preview = None
            if area is not None:
                yield from _assess_area(job, look, area, footprints, work, origin, spans)
                spans |= {"load": spans["predict"]}  # the network is loaded anew: no step back for that
            if "buildings" in destinations:
                preview = DamagePreview(
                    job, scene, heads, footprints, work, origin, None if area is None else _beyond(area)
                ).update
            prediction = yield from predict(
                look,
                scene,
                heads,
                work,
                spans,
                may_be_empty=footprints is not None,
                preview=preview,
            )
            manifest["prediction"] = prediction
            tags = describe_probability(
                look,
                scene,
                task=TASK,
                class_name=heads[0],
                threshold=card.threshold,
                threshold_low=None,
                manifest=manifest,
            )
            probability = yield from write_probability(
                work, scene.grid, tags, destinations, spans, output="damage", bands=heads
            )
            if footprints is None:
                footprints = yield from _detect(job, scene, probability, work.path, spans["trace"])
                placed = PlacedFootprints.unmoved(onto_pixels(footprints.shapes, scene.grid.transform))
                shift = Shift()
            else:
                placed, shifts = yield from _place(job, scene, footprints, probability, spans["trace"])
                shift = shifts.consensus
                manifest["footprint_fit"] = {
                    "moved_m": shift.moved_m,
                    "is_local": shifts.is_local,
                    "windows": describe_windows(shift, scene.grid),
                }
            assessment = yield from follow(
                assess_buildings(card, scene.grid, footprints, placed, probability),
                spans["pool"],
                f"Assessing {len(footprints.shapes)} buildings",
            )
            yield from _warn(assessment)
            totals = sum_up(assessment)
            if "buildings" in destinations:
                made = work.path / f"buildings{destinations['buildings'].suffix.lower()}"
                write_damage_layer(made, scene.grid.crs, footprints, assessment, origin)
            if "summary" in destinations:
                write_summary(work.path / f"summary{destinations['summary'].suffix.lower()}", totals)
            manifest["damage"] = {"counts": {t.name: t.buildings for t in totals}}
            outputs = yield from put_in_place(work, manifest, destinations, spans["place"])
            work.discard()
    yield Result(
        outputs,
        {
            "buildings": sum(t.buildings for t in totals),
            "counts": {t.name: t.buildings for t in totals},
            "areas_m2": {t.name: round(t.area_m2, 1) for t in totals},
            "levels": describe_levels(card),
            "shift_m": pair.shift.moved_m,
            "footprint_shift_m": shift.moved_m,
            "model": card.name,
            **prediction,
            "seconds": round(time.monotonic() - began, 1),
        },
    )


def _check_parameters(job: AssessDamage) -> None:
    check_not_negative(smallest_area=job.min_area_m2)
    if job.aoi_first and not job.aoi:
        raise JobError("The area of interest cannot come first, as there is none: give one, or ask for all.")
    if not all(math.isfinite(v) and abs(v) <= _FURTHEST_NUDGE_M for v in job.nudge_m):
        raise JobError(
            f"Footprints cannot be moved by {job.nudge_m[0]:g} m east and {job.nudge_m[1]:g} m north: "
            f"{_FURTHEST_NUDGE_M:g} m is the most."
        )
    for image, text in (("before", job.pre_date), ("after", job.post_date)):
        if not text:
            continue
        try:
            _day_of(text)
        except ValueError as error:
            raise JobError(
                f"{text!r} is no date of the image {image}: write it as in 2023-02-07 (ISO 8601)."
            ) from error


def _plan_area_first(job: AssessDamage, scene: Scene) -> Scene | None:
    """The area of interest as a scene, where its buildings are wanted before the rest; else none."""
    if not job.aoi_first or not job.output_buildings:
        return None
    return plan_scene(job, scene.package, scene.source, scene.grid)


def _beyond(area: Scene) -> Shown:
    """Which buildings do not lie in an area."""
    return lambda shapes: ~area.region.holds(shapes)


def _plan_progress(scene: Scene, area: Scene | None) -> dict[str, Span]:
    """The parts of the run's progress; ``area`` is the part of the network's for the area of interest."""
    tiles = len(area.plan) if area is not None else 0
    share = tiles / max(1, tiles + len(scene.plan))
    weights = {}
    for name, weight in _WEIGHTS.items():
        if name == "predict":
            weights["area"] = weight * share
            weight *= 1 - share
        weights[name] = weight
    return plan_spans(weights)


def _assess_area(
    job: AssessDamage,
    look: DetectBuildings,
    area: Scene,
    footprints: Footprints | None,
    work: WorkFolder,
    origin: Origin,
    spans: Mapping[str, Span],
) -> Generator[Progress | Partial, None, None]:
    """Tell the buildings of the area of interest, all of them, before the run looks at anything else."""
    part, heads = work.part("area"), heads_of(area.card)
    preview = DamagePreview(job, area, heads, footprints, part, origin, area.region.holds)
    yield from predict(
        look,
        area,
        heads,
        part,
        {"load": spans["load"], "predict": spans["area"]},
        may_be_empty=True,
        preview=preview.update,
    )
    yield from preview.finish()
    yield spans["area"].at(1.0, f"The area of interest is done: {preview.buildings} buildings. Now the rest")


def _day_of(text: str) -> datetime.date:
    """The day of an ISO 8601 date, with or without a time."""
    return datetime.datetime.fromisoformat(text).date()


def _look_at_post(job: AssessDamage) -> DetectBuildings:
    """The same look at the image after as a run on it alone, for the steps that both share."""
    return DetectBuildings(
        raster=job.post,
        bands=job.bands,
        gsd_m=job.gsd_m,
        crs=job.crs,
        extent=job.extent,
        extent_crs=job.extent_crs,
        aoi="" if job.aoi_first else job.aoi,
        aoi_layer="" if job.aoi_first else job.aoi_layer,
        device=job.device,
        source=job.source,
    )


def _identity(job: AssessDamage, look: DetectBuildings, scene: Scene, area: Scene | None) -> dict[str, Any]:
    """What decides the probabilities."""
    return {
        **prediction_identity("assess_damage", look, scene),
        "pre": file_identity(job.pre) if job.pre else None,
        "pre_bands": job.pre_bands,
        "pre_crs": job.pre_crs,
        "align": job.align,
        "area_first": area.region.fingerprint() if area is not None else "",
    }


def _when_taken(job: AssessDamage) -> dict[str, Acquisition]:
    """When each image was taken: as the job says, else as the file does."""
    taken = {}
    for name, path, date in (("pre", job.pre, job.pre_date), ("post", job.post, job.post_date)):
        found = read_acquisition(path) if path else Acquisition()
        taken[name] = dataclasses.replace(found, date=date) if date else found
    return taken


def _check_dates(taken: Mapping[str, Acquisition]) -> Iterator[Warning]:
    """Images that were swapped make damage of every new building."""
    before, after = taken["pre"].date, taken["post"].date
    if before and after and _day_of(before) > _day_of(after):
        yield Warning(
            f"The image before was taken on {before}, later than the one after ({after}): have they been "
            "swapped?"
        )


def _read_footprints(job: AssessDamage, scene: Scene) -> Footprints | None:
    """The known buildings; none where they are to be detected."""
    if not job.footprints:
        return None

    return read_footprints(job.footprints, job.footprints_layer, scene.grid.crs)


def _place(
    job: AssessDamage, scene: Scene, footprints: Footprints, probability: Path, span: Span
) -> Generator[Event, None, tuple[PlacedFootprints, ShiftField]]:
    """Where known buildings stand in the image, and how far they lay from there; says what was done."""
    yield from _describe_footprints(footprints)
    pixels = onto_pixels(footprints.shapes, scene.grid.transform)
    placed, shifts = move_onto_image(job, scene.grid, pixels, probability)
    if job.align:
        said = describe_footprint_field(shifts, placed.moved_m)
        shift = shifts.consensus
        is_fine = not shifts.is_local and shift.is_consistent and shift.length_m < NOTICED_M
        yield span.at(0.0, said) if is_fine else Warning(said)
    return placed, shifts


def _describe_footprints(footprints: Footprints) -> Iterator[Warning]:
    if footprints.repaired:
        yield Warning(f"{footprints.repaired} footprints were invalid and have been mended.")
    if footprints.empty:
        yield Warning(f"{footprints.empty} footprints have no geometry: their damage is unknown.")


def _detect(
    job: AssessDamage, scene: Scene, probability: Path, work: Path, span: Span
) -> Generator[Progress, None, Footprints]:
    """The buildings that the network sees, without those too small."""

    path = work / "detected.gpkg"
    found = yield from follow_windows(
        vectorize_buildings(
            probability,
            threshold=scene.card.threshold,  # of the first head, the footprints
            min_area_m2=job.min_area_m2,
            regularize=True,
            buildings=path,
            attributes={"model": scene.card.name, "source": "", "date": ""},
        ),
        span,
        "Outlining buildings",
    )
    if not found.buildings:
        return Footprints(np.empty(0, object), np.empty(0, object), {})
    detected = read_footprints(str(path), "", scene.grid.crs)
    return dataclasses.replace(detected, attributes={})


def _warn(assessment: Assessment) -> Iterator[Warning]:
    """What the counts must not be taken for."""
    unknown = int((~assessment.is_known).sum())
    if len(assessment.seen) == 0:
        yield Warning("No building was found: the layer is empty.")
    elif unknown:
        yield Warning(
            f"The damage of {unknown} of {len(assessment.seen)} buildings is unknown, not none: the images "
            "do not show them, or show cloud or deep shadow."
        )
