"""The contract between QGIS and the worker: a job goes in as one JSON line, events come out.

Standard library only, Python 3.9: the plugin (inside QGIS) and the worker both import it.

A job is a frozen dataclass whose fields are plain JSON values. Events are what a flow yields while it
runs; the last one of a run is a `Result` or a `Failure`. On the line, each is an object with its class
name under ``"type"``; jobs also carry ``"version"``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Union

from .errors import JobError

CONTRACT_VERSION = 1

# --------------------------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class SegmentRoads:
    """Find the roads of one raster: probabilities, polygons, centrelines.

    Attributes:
        raster: Path (or GDAL name) that the worker's GDAL opens.
        model: Name of a model in `model_folders`, or the path of a package; empty: the best fit.
        model_folders: Folders that hold model packages, besides the starter models.
        bands: Band numbers from 1 in the order of the model's bands; empty: by colour interpretation.
        gsd_m: Size of a pixel on the ground in metres, only where the raster cannot tell.
        crs: CRS (WKT or authority code) of a raster that states none but whose layer has one.
        extent: (xmin, ymin, xmax, ymax) to which the run is limited, or none.
        extent_crs: CRS of `extent`; empty: the raster's.
        aoi: Path of a polygon layer to which the run is limited; empty: none.
        aoi_layer: Name of the layer inside `aoi`; empty: the first.
        threshold: Probability from which a pixel is road, 0 to 1; none: the model's own.
        min_area_m2: Road polygons smaller than this are dropped.
        simplify_m: Tolerance of the simplification of polygons and centrelines; 0: pixel edges.
        block_m: Side of the ground blocks at which networks are cut; 0: never.
        output_probability: Path of the probability raster (.tif); empty: not written.
        output_polygons: Path of the polygon layer (.gpkg); empty: not written.
        output_centrelines: Path of the centreline layer (.gpkg); empty: not written.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        resume: Continue an unfinished run of the same job.
        cache: Folder for unfinished work; empty: the user's cache.
        source: Where the raster came from if it was exported (tile service and its terms); for the manifest.
    """

    raster: str
    model: str = ""
    model_folders: tuple[str, ...] = ()
    bands: tuple[int, ...] = ()
    gsd_m: float | None = None
    crs: str = ""
    extent: tuple[float, float, float, float] | None = None
    extent_crs: str = ""
    aoi: str = ""
    aoi_layer: str = ""
    threshold: float | None = None
    min_area_m2: float = 30.0
    simplify_m: float = 0.5
    block_m: float = 1000.0
    output_probability: str = ""
    output_polygons: str = ""
    output_centrelines: str = ""
    device: str = "auto"
    resume: bool = True
    cache: str = ""
    source: str = ""


@dataclass(frozen=True)
class VectorizeProbabilities:
    """Make road polygons and centrelines anew from a probability raster, at another threshold.

    Attributes: as in `SegmentRoads`; `probability` is a raster that `SegmentRoads` wrote.
    """

    probability: str
    threshold: float | None = None
    min_area_m2: float = 30.0
    simplify_m: float = 0.5
    block_m: float = 1000.0
    output_polygons: str = ""
    output_centrelines: str = ""
    cache: str = ""


@dataclass(frozen=True)
class DetectBuildings:
    """Find the buildings of one raster: one polygon a building.

    ``Result.outputs``: ``buildings``, ``probability`` (those that were asked for) and ``manifest``.
    ``Result.values``: ``buildings`` (count), ``area_m2``, ``threshold``, ``model``, ``device``,
    ``precision``.

    Attributes: as in `SegmentRoads`, and:
        min_area_m2: Smaller buildings are dropped.
        regularize: Straighten outlines, with right angles where the building has them.
        output_buildings: Path of the polygon layer (.gpkg); empty: not written.
        output_probability: Path of the probability raster (.tif); empty: not written.
    """

    raster: str
    model: str = ""
    model_folders: tuple[str, ...] = ()
    bands: tuple[int, ...] = ()
    gsd_m: float | None = None
    crs: str = ""
    extent: tuple[float, float, float, float] | None = None
    extent_crs: str = ""
    aoi: str = ""
    aoi_layer: str = ""
    threshold: float | None = None
    min_area_m2: float = 10.0
    regularize: bool = True
    output_buildings: str = ""
    output_probability: str = ""
    device: str = "auto"
    resume: bool = True
    cache: str = ""
    source: str = ""


@dataclass(frozen=True)
class AssessDamage:
    """Find out how badly each building is damaged, from an image after the event and perhaps one before.

    ``Result.outputs``: ``buildings``, ``damage``, ``summary`` (those that were asked for) and ``manifest``.
    ``Result.values``: ``counts`` (name of a level to the number of buildings), ``areas_m2``, ``levels``
    (objects ``code``, ``name``, ``colour`` of the levels that the model tells apart), ``shift_m`` (east,
    north: how far the pre image was moved to fit), ``footprint_shift_m``, ``model``, ``device``,
    ``precision``, ``buildings``.

    While the network runs: `Partial` for ``buildings``, as far as it has come; with `aoi_first`, all those of
    the area of interest before any other.

    The fields of the building layer are those of `damage_fields.FIELDS`.

    Attributes:
        post: Raster from after the event; path as in `SegmentRoads`.
        pre: Raster from before the event; empty: none.
        footprints: Path of a polygon layer of known buildings; empty: detected on `pre`, else on `post`.
        footprints_layer: Name of the layer inside `footprints`; empty: the first.
        model: Name or path of a damage model; empty: the best fit.
        model_folders: As in `SegmentRoads`.
        bands: Of `post`, as in `SegmentRoads`.
        pre_bands: Of `pre`.
        gsd_m: Of `post`, as in `SegmentRoads`.
        crs: Of `post`, as in `SegmentRoads`.
        pre_crs: Of `pre`, likewise.
        extent: As in `SegmentRoads`.
        extent_crs: As in `SegmentRoads`.
        aoi: As in `SegmentRoads`.
        aoi_layer: As in `SegmentRoads`.
        aoi_first: Assess the area of interest first and then all the rest of the raster, or of `extent`; else
            nothing but that area. The network looks at the area twice.
        nudge_m: East and north in metres by which the analyst moves the footprints on the image.
        align: Estimate and correct the shift between the images, and between footprints and image.
        min_area_m2: Detected buildings smaller than this are dropped; known footprints never are.
        output_buildings: Path of the building layer (.gpkg); empty: not written.
        output_damage: Path of the raster of class probabilities (.tif); empty: not written.
        output_summary: Path of a table of counts and areas by level (.csv); empty: not written.
        post_date: When `post` was taken (ISO 8601); empty: from its metadata, if they tell.
        pre_date: When `pre` was taken, likewise.
        device: As in `SegmentRoads`.
        resume: Continue an unfinished run of the same job.
        cache: As in `SegmentRoads`.
        source: As in `SegmentRoads`, of `post`.
        pre_source: Likewise of `pre`.
    """

    post: str
    pre: str = ""
    footprints: str = ""
    footprints_layer: str = ""
    model: str = ""
    model_folders: tuple[str, ...] = ()
    bands: tuple[int, ...] = ()
    pre_bands: tuple[int, ...] = ()
    gsd_m: float | None = None
    crs: str = ""
    pre_crs: str = ""
    extent: tuple[float, float, float, float] | None = None
    extent_crs: str = ""
    aoi: str = ""
    aoi_layer: str = ""
    aoi_first: bool = False
    nudge_m: tuple[float, float] = (0.0, 0.0)
    align: bool = True
    min_area_m2: float = 10.0
    output_buildings: str = ""
    output_damage: str = ""
    output_summary: str = ""
    post_date: str = ""
    pre_date: str = ""
    device: str = "auto"
    resume: bool = True
    cache: str = ""
    source: str = ""
    pre_source: str = ""


@dataclass(frozen=True)
class DescribeRaster:
    """Ask whether the worker's GDAL opens a raster, and how it understands it.

    The `Result.values` hold width, height, bands, dtype, crs (WKT or empty), gsd_m (or none) and the
    name of the model that fits best (or empty).
    """

    raster: str
    bands: tuple[int, ...] = ()
    gsd_m: float | None = None
    crs: str = ""
    model_folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScanTiles:
    """Look at folders of labelled tiles: what is there, what is broken, how often the class is seen.

    The index behind it is computed once and kept; a second scan reads only what changed.

    ``Result.outputs["tiles"]`` is a JSON file: a list of objects, one a tile, with ``folder``, ``stem``,
    ``image``, ``mask`` (paths), ``width``, ``height``, ``gsd_m`` (or null), ``shares`` (name of a class to
    its share of the labelled pixels, 0 to 1), ``bounds`` (west, south, east, north in degrees, or null),
    ``problem`` (empty if usable).
    ``Result.values``: ``folders`` (one object each: ``folder``, ``layout``, ``tiles``, ``usable``,
    ``unmatched``), ``tiles``, ``usable``, ``size_px`` (least and greatest side), ``gsd_m`` (least and
    greatest, or null), ``classes`` (objects with ``name``, ``code``, ``share``; that of the task first),
    ``coding`` (how masks are coded, in words), ``problems`` (sentences, the first hundred),
    ``problem_count``.

    For ``damage`` a tile is a pair of images: ``image`` is the one after, ``mask`` what says its damage, and
    ``levels`` is the number of its buildings by code (255: un-classified). The values have ``levels``
    (objects with ``code``, ``name``, ``colour``, ``buildings``) and ``events`` (names) besides.

    Attributes:
        folders: Folders of labelled tiles, in any known layout.
        task: ``roads``, ``buildings`` or ``damage``.
        mask_value: As in `TrainModel`.
        cache: Folder for the index; empty: the user's cache.
    """

    folders: tuple[str, ...]
    task: str = "roads"
    mask_value: str = ""
    cache: str = ""


@dataclass(frozen=True)
class ExportTrainingTiles:
    """Cut a raster and a layer of digitised roads or buildings into a folder of labelled tiles.

    The folder gets ``images/`` and ``masks/`` (and ``georeference`` in each tile where the raster has one).
    ``Result.values``: ``tiles``, ``class_share``, ``skipped`` (tiles with no labelled pixel or no data).

    Attributes:
        raster: As in `SegmentRoads`.
        labels: Path of the vector layer: polygons, or lines that are buffered.
        folder: Where the tiles go; made if missing, refused if it holds tiles already.
        labels_layer: Name of the layer inside `labels`; empty: the first.
        bands: As in `SegmentRoads`.
        gsd_m: As in `SegmentRoads`.
        crs: As in `SegmentRoads`.
        width_field: Field with the full width of lines in metres; empty: `width_m`.
        width_m: Full width of lines in metres.
        area: Path of a polygon layer inside which everything is digitised; outside is unlabelled, not
            background; empty: the whole raster is digitised.
        area_layer: Name of the layer inside `area`.
        tile_px: Side of a tile in the raster's pixels.
        image_format: ``tif`` (DEFLATE), ``jpg`` (quality 92) or ``png``.
        min_share: Only tiles with at least this share of the class.
    """

    raster: str
    labels: str
    folder: str
    labels_layer: str = ""
    bands: tuple[int, ...] = ()
    gsd_m: float | None = None
    crs: str = ""
    width_field: str = ""
    width_m: float = 8.0
    area: str = ""
    area_layer: str = ""
    tile_px: int = 512
    image_format: str = "tif"
    min_share: float = 0.0


@dataclass(frozen=True)
class CopyTiles:
    """Write the selected tiles of folders as a folder of their own, small enough to travel.

    ``Result.values``: ``tiles``, ``bytes_before``, ``bytes_after``.

    Attributes:
        folders: As in `ScanTiles`.
        folder: Where ``images/`` and ``masks/`` go; made if missing, refused if it holds tiles already.
        task: ``roads``.
        mask_value: As in `TrainModel`.
        min_share: Only tiles with at least this share of the class.
        image_format: ``tif`` (DEFLATE), ``jpg`` (quality 92) or ``png``; masks are lossless always.
        cache: As in `ScanTiles`.
    """

    folders: tuple[str, ...]
    folder: str
    task: str = "roads"
    mask_value: str = ""
    min_share: float = 0.0
    image_format: str = "jpg"
    cache: str = ""


@dataclass(frozen=True)
class TrainModel:
    """Train a network on folders of labelled tiles.

    While it runs: `Metric` ``training`` (``loss``, ``learning_rate``, ``class_share`` of the batch,
    ``memory_mb``, ``device``), `Metric` ``validation`` after each round (``iou``, ``f1``, ``precision``,
    ``recall``, ``threshold``, ``loss``), `Figure` for the curves and for a triptych of each drawn
    validation tile after each round (the title is the tile's name), `Warning` for each finding of the
    diagnosis.

    For ``damage``, ``class_share`` and the scores of a validation are those of buildings, and there are
    ``macro_f1`` (of the levels, building by building) and ``score`` (by which rounds are judged) besides;
    ``loss`` is then the cross-entropy of the levels.

    Attributes:
        folders: Folders with ``images/`` and ``masks/`` of equal stems (or another known layout).
        output: Path of the model package to write (``.aftermap`` file, or a folder).
        task: ``roads``, ``buildings``, or ``damage`` (of pairs of images laid out as xBD; `mask_value`,
            `gsd_m`, `loss`, `positive_weight`, `skeleton_weight`, `sampler`, `min_share`, `prior_bias` and
            `synthetic_share` then have no effect).
        start_from: Name or path of the model to fine-tune; ``starter``: the starter model of the task;
            ``scratch``: a new network after `architecture`, with `encoder_weights` if given.
        model_folders: Folders that hold model packages, besides the starter models.
        encoder_weights: Path of pretrained encoder weights (.safetensors) for ``scratch``.
        architecture: Parameters of a new network, as on a card; empty: MobileNetV2 with a light decoder.
        mask_value: What in a mask is the class: a code (``3``) or a colour (``#ffff00``); empty: found out
            (0/1, 0/255 or white on black).
        gsd_m: Ground resolution of tiles that state none, in metres; none: taken as `working_gsd_m`.
        working_gsd_m: Ground resolution at which the network works; none: the start model's, or that of the
            tiles where it is finer and there are tiles enough; 0.8 for a new network.
        splits: JSON file with the stems of each folder's ``train`` and ``validation`` tiles.
        validation: Folder of validation tiles; empty: after `splits`, or a leak-free split.
        validation_share: Share of the tiles for validation where the split is made here.
        epochs: Looks at each crop's worth of ground; 0: after `steps`.
        steps: Optimiser steps; 0: after `epochs`, or as many as the data ask for.
        batch_size: Crops per step; 0: about 1.2 megapixels.
        crop_px: Side of a crop at the working resolution; 0: what the tiles hold, at most 384.
        scale_jitter: Largest factor by which crops are enlarged or shrunk.
        accumulate: Batches whose gradients make one step.
        learning_rate: Peak learning rate; 0: the recipe's.
        schedule: ``wsd`` (warm-up, stable, decay), ``cosine`` (with warm-up), ``one_cycle``, ``step``,
            ``plateau`` or ``constant``.
        step_every: Period of ``step``, in `step_unit`; the rate is divided by ten.
        step_unit: ``epoch``, or ``batch``.
        loss: ``bce_dice``, ``bce``, ``weighted_bce``, ``focal``, ``dice``, ``tversky``, ``focal_dice``.
        positive_weight: Weight of the class's pixels in ``weighted_bce``; 0: suggested from the index.
        skeleton_weight: Weight of skeleton recall, added to the loss; 0: none.
        sampler: ``weighted`` (by class share, at least 15 % without the class) or ``uniform``.
        min_share: Only tiles with at least this class share; 0: all.
        augmentation: ``structure`` (colours that mislead), ``mild`` or ``none``.
        prior_bias: A new network says at first how frequent the class is, and not 0.5 everywhere.
        synthetic_share: Share of generated crops in a batch, 0 to 1.
        patience: Rounds without a better score after which it stops; 0: never.
        seed: Seed of everything that is random.
        device: As in `SegmentRoads`.
        resume: Continue an unfinished training of the same job.
        cache: Folder for index, checkpoints and unfinished work; empty: the user's cache.
        name: Name of the model on its card; empty: from `output`.
        licences: Licence of each folder's data, in the order of `folders`; for the card.
    """

    folders: tuple[str, ...]
    output: str
    task: str = "roads"
    start_from: str = "starter"
    model_folders: tuple[str, ...] = ()
    encoder_weights: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    mask_value: str = ""
    gsd_m: float | None = None
    working_gsd_m: float | None = None
    splits: str = ""
    validation: str = ""
    validation_share: float = 0.2
    epochs: float = 0.0
    steps: int = 0
    batch_size: int = 0
    crop_px: int = 0
    scale_jitter: float = 1.25
    accumulate: int = 1
    learning_rate: float = 0.0
    schedule: str = "wsd"
    step_every: int = 30
    step_unit: str = "epoch"
    loss: str = "bce_dice"
    positive_weight: float = 0.0
    skeleton_weight: float = 0.0
    sampler: str = "weighted"
    min_share: float = 0.0
    augmentation: str = "structure"
    prior_bias: bool = True
    synthetic_share: float = 0.0
    patience: int = 0
    seed: int = 1
    device: str = "auto"
    resume: bool = True
    cache: str = ""
    name: str = ""
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanTraining(TrainModel):
    """Say what a training would do, without doing it: the same fields, and seconds.

    ``Result.outputs``: ``tiles`` (JSON as of `ScanTiles`, each tile with ``part``: ``train``,
    ``validation``, ``below_min_share``, ``left_out``), ``augmentation`` (PNG: a sheet of crops as the network
    will see them; none where `preview` is empty).
    ``Result.values``: ``train_tiles``, ``validation_tiles``, ``below_min_share``, ``split`` (a sentence),
    ``share_all``, ``share_kept``, ``share_sampled`` (class share of the pixels in an epoch), ``steps``,
    ``steps_per_epoch``, ``batch_size``, ``crop_px``, ``learning_rate``, ``learning_rates`` (pairs of step
    and rate over the whole run), ``positive_weight`` and ``positive_weight_formula``, ``constant_loss``
    (what a constant guess of the prior costs under BCE), ``findings`` (sentences of the diagnosis).

    For ``damage`` there are no shares and no positive weight, ``constant_loss`` is that of guessing how
    frequent the levels are, and there are ``levels`` (objects with ``code``, ``codes``, ``name``, ``merged``
    (names of the levels that are one here; empty for a level by itself), ``colour``, ``train`` and
    ``validation`` (buildings), ``share``, ``weight`` (in the loss) and ``formula`` (of the weight)).

    Attributes:
        preview: Folder for the augmentation sheet; empty: none is made.
    """

    preview: str = ""


@dataclass(frozen=True)
class FindLearningRate(TrainModel):
    """The learning-rate range test: a short run whose rate grows, and the rate that it suggests.

    `Metric` ``range_test`` (``learning_rate``, ``loss``, ``smoothed``) as it goes. ``Result.values``:
    ``learning_rate`` (the suggestion), ``curve`` (triples of rate, loss, smoothed loss). Nothing is written
    to `output`.

    Attributes:
        figure: PNG of the curve; empty: none.
    """

    figure: str = ""


@dataclass(frozen=True)
class EvaluateModel:
    """Score a model on a folder of labelled tiles.

    The `Result.values` hold at least ``iou``, ``f1``, ``precision``, ``recall``, ``relaxed_f1``, ``cldice``,
    ``threshold`` and ``tiles``; ``apls`` for roads; ``ece``; ``roof_fpr`` where there are building masks, and
    ``recall_under_cars``, ``recall_under_trees`` and ``recall_under_shadows`` where there are occlusion
    masks; ``colour_probe`` where it was asked for (name of a perturbation to IoU, and ``worst_drop``).

    Those of a damage model are ``building_iou``, ``building_f1`` and so on for its pixels of buildings;
    ``macro_f1`` of the levels and ``f1`` by level, ``positive_f1`` (destroyed against the rest), ``auc``,
    ``auc_within_tiles`` and others, each ``[value, low, high]``, building by building; ``confusion``;
    ``xview2_by_pixel`` and ``xview2_by_building`` (``score`` and its parts); ``buildings`` and ``tiles``.
    `probe`, `gsd_m` and `mask_value` have no effect on it, and a warning says so.

    Attributes:
        model: Name or path of the model.
        folder: Folder with ``images/`` and ``masks/`` of equal stems (or another known layout).
        model_folders: Folders that hold model packages, besides the starter models.
        mask_value: As in `TrainModel`.
        gsd_m: Ground resolution of tiles that state none, in metres; none: the model's own.
        splits: JSON file with the stems of each folder's ``train`` and ``validation`` tiles; empty: all
            tiles are scored.
        part: Which list of `splits` is scored.
        threshold: Probability from which a pixel is road; none: the model's own.
        report: Folder for ``report.html`` with triptychs and curves; empty: none.
        probe: Also measure how the scores depend on colour; it runs the network eight times more.
        record: Write the scores onto the card of the model, in place of earlier ones of this folder and part.
        device: As in `SegmentRoads`.
    """

    model: str
    folder: str
    model_folders: tuple[str, ...] = ()
    mask_value: str = ""
    gsd_m: float | None = None
    splits: str = ""
    part: str = "validation"
    threshold: float | None = None
    report: str = ""
    probe: bool = False
    record: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class CompareRuns:
    """Put models side by side on the same tiles: scores with intervals, curves, triptychs.

    ``Result.outputs``: ``report`` (HTML) and ``table`` (Markdown). ``Result.values``: ``models``: one
    object each, with ``name``, ``iou``, ``iou_low``, ``iou_high`` (95 % bootstrap over the tiles) and so on
    for ``f1``, ``threshold``; ``tiles``.

    Attributes:
        models: Names or paths of two models or more.
        folder: As in `EvaluateModel`.
        report: Folder for the report.
        model_folders: As in `EvaluateModel`.
        mask_value: As in `TrainModel`.
        gsd_m: As in `EvaluateModel`.
        splits: As in `EvaluateModel`.
        part: As in `EvaluateModel`.
        device: As in `SegmentRoads`.
    """

    models: tuple[str, ...]
    folder: str
    report: str
    model_folders: tuple[str, ...] = ()
    mask_value: str = ""
    gsd_m: float | None = None
    splits: str = ""
    part: str = "validation"
    device: str = "auto"


@dataclass(frozen=True)
class GenerateScenes:
    """Write a folder of generated, georeferenced scenes with exact labels.

    The folder has ``images/``, ``masks/`` (roads), ``building_masks/`` and ``occlusion_masks/`` (what hides
    a road: 1 a car, 2 a tree, 3 a shadow), so that `TrainModel` and `EvaluateModel` take it.

    With `damage` it is laid out as xBD instead: ``images/``, ``labels/`` and ``targets/`` of towns before and
    after an event, each an event of its own. Beside them, ``scenes/<name>/`` holds each as ``pre.tif``,
    ``post.tif`` and ``footprints.geojson``, georeferenced.

    Attributes:
        folder: Where; made if missing.
        count: Number of scenes.
        seed: Of the first scene's chance; equal seeds give equal scenes.
        size_px: Side of a scene.
        gsd_m: Ground resolution in metres; none: each scene its own, 0.3 to 1 m (0.3 to 0.6 m with `damage`).
        style: Style of the towns; empty: each scene its own.
        damage: Write towns before and after an event.
        damage_share: Share of the buildings that are damaged, 0 to 1; none: each town its own, mostly low.
        hazard: What happens to the towns: ``earthquake``, ``storm``, ``fire``; empty: each its own.
    """

    folder: str
    count: int = 24
    seed: int = 1
    size_px: int = 512
    gsd_m: float | None = None
    style: str = ""
    damage: bool = False
    damage_share: float | None = None
    hazard: str = ""


Job = Union[
    SegmentRoads,
    VectorizeProbabilities,
    DetectBuildings,
    AssessDamage,
    DescribeRaster,
    ScanTiles,
    ExportTrainingTiles,
    CopyTiles,
    TrainModel,
    PlanTraining,
    FindLearningRate,
    EvaluateModel,
    CompareRuns,
    GenerateScenes,
]
JOB_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        SegmentRoads,
        VectorizeProbabilities,
        DetectBuildings,
        AssessDamage,
        DescribeRaster,
        ScanTiles,
        ExportTrainingTiles,
        CopyTiles,
        TrainModel,
        PlanTraining,
        FindLearningRate,
        EvaluateModel,
        CompareRuns,
        GenerateScenes,
    )
}

# ------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        fraction: 0 to 1 over the whole run.
        message: One line for the user, complete in itself (step, tiles done, speed, time left).
    """

    fraction: float
    message: str = ""
    is_last: ClassVar[bool] = False


@dataclass(frozen=True)
class Metric:
    """Numbers of a run as it goes: losses, scores, throughput."""

    name: str
    values: Mapping[str, Any]
    step: int = 0
    is_last: ClassVar[bool] = False


@dataclass(frozen=True)
class Figure:
    """A picture that was written or rewritten (learning curves, triptychs)."""

    title: str
    path: str
    is_last: ClassVar[bool] = False


@dataclass(frozen=True)
class Partial:
    """Features of an output that are finished before the run is: a part that nothing else has told yet.

    They are provisional: what the output holds in the end may differ from all the parts together.

    Attributes:
        layer: Name of the output, as in `Result.outputs`.
        path: A complete GeoPackage of these features alone; it may be gone once the run has ended.
        count: How many there are.
        values: What else their layer needs, by the names of `Result.values`: ``levels`` of ``buildings``.
    """

    layer: str
    path: str
    count: int
    values: Mapping[str, Any] = field(default_factory=dict)
    is_last: ClassVar[bool] = False


@dataclass(frozen=True)
class Warning:
    """Something that the user should know and that does not stop the run."""

    message: str
    is_last: ClassVar[bool] = False


@dataclass(frozen=True)
class Result:
    """The end of a run that succeeded.

    Attributes:
        outputs: Name of each output (``probability``, ``polygons``, ``centrelines``, ``model``,
            ``manifest`` …) to the path of the file.
        values: What else the caller needs: device, counts, scores, threshold ….
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    is_last: ClassVar[bool] = True


@dataclass(frozen=True)
class Failure:
    """The end of a run that failed.

    Attributes:
        kind: Name of a class in `errors`, or ``"Cancelled"``.
        message: One sentence for the user.
        traceback: For the log; empty where the sentence says it all.
    """

    kind: str
    message: str
    traceback: str = ""
    is_last: ClassVar[bool] = True


class FinishEarly(Exception):  # noqa: N818  it asks, and reports no error
    """Thrown into a running flow: end now, with what you have. Training keeps its best network so far."""


Event = Union[Progress, Metric, Figure, Partial, Warning, Result, Failure]
EVENT_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Progress, Metric, Figure, Partial, Warning, Result, Failure)
}

# --------------------------------------------------------------------------------------------- JSON


def to_json(message: Job | Event) -> str:
    """One line of JSON, without a line break, keys in a stable order."""
    body = {"type": type(message).__name__, **dataclasses.asdict(message)}
    if type(message).__name__ in JOB_TYPES:
        body["version"] = CONTRACT_VERSION
    return json.dumps(body, ensure_ascii=False, allow_nan=True, sort_keys=True)


def job_from_json(line: str) -> Job:
    """Read a job.

    Raises:
        JobError: The line is no job of this version.
    """
    body = _object(line)
    version = body.pop("version", None)
    if version != CONTRACT_VERSION:
        raise JobError(
            f"The job speaks version {version} of the contract and this worker {CONTRACT_VERSION}: "
            "restart QGIS after an update of Aftermap."
        )
    job: Job = _build(body, JOB_TYPES)
    return job


def event_from_json(line: str) -> Event:
    """Read an event.

    Raises:
        JobError: The line is no event.
    """
    event: Event = _build(_object(line), EVENT_TYPES)
    return event


def _object(line: str) -> dict[str, Any]:
    try:
        body = json.loads(line)
    except json.JSONDecodeError as error:
        raise JobError(f"Not a line of JSON: {line[:80]!r}.") from error
    if not isinstance(body, dict):
        raise JobError(f"Not a JSON object: {line[:80]!r}.")
    return body


def _build(body: dict[str, Any], types: Mapping[str, type[Any]]) -> Any:
    name = body.pop("type", None)
    cls = types.get(str(name))
    if cls is None:
        raise JobError(f"Unknown message {name!r}; known are {', '.join(sorted(types))}.")
    known = {f.name for f in dataclasses.fields(cls)}
    unknown: list[str] = sorted(set(body) - known)
    if unknown:
        raise JobError(f"{name} has no field {', '.join(unknown)}.")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in body.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise JobError(f"{name} is incomplete: {error}.") from error
