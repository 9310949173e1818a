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
class TrainModel:
    """Train a network on folders of labelled tiles.

    Attributes:
        folders: Folders with ``images/`` and ``masks/`` of equal stems (or another known layout).
        output: Path of the model package to write (``.aftermap`` file, or a folder).
        task: ``roads``.
        start_from: Name or path of the model to fine-tune; ``starter``: the starter model of the task;
            ``scratch``: a new network after `architecture`, with `encoder_weights` if given.
        model_folders: Folders that hold model packages, besides the starter models.
        encoder_weights: Path of pretrained encoder weights (.safetensors) for ``scratch``.
        architecture: Parameters of a new network, as on a card; empty: MobileNetV2 with a light decoder.
        gsd_m: Ground resolution of tiles that state none, in metres; none: taken as `working_gsd_m`.
        working_gsd_m: Ground resolution at which the network works; none: the start model's, or 0.8.
        splits: JSON file with the stems of each folder's ``train`` and ``validation`` tiles.
        validation: Folder of validation tiles; empty: after `splits`, or a leak-free split.
        validation_share: Share of the tiles for validation where the split is made here.
        steps: Optimiser steps; 0: as many as the data ask for.
        batch_size: Crops per step.
        crop_px: Side of a crop at the working resolution.
        scale_jitter: Largest factor by which crops are enlarged or shrunk.
        learning_rate: Peak learning rate; 0: 1e-3 for a new network, 3e-4 for fine-tuning.
        loss: ``bce_dice``, ``bce``, ``weighted_bce`` or ``focal_dice``.
        sampler: ``weighted`` (by class share, at least 15 % without the class) or ``uniform``.
        min_share: Only tiles with at least this class share; 0: all.
        synthetic_share: Share of generated crops in a batch, 0 to 1.
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
    gsd_m: float | None = None
    working_gsd_m: float | None = None
    splits: str = ""
    validation: str = ""
    validation_share: float = 0.2
    steps: int = 0
    batch_size: int = 8
    crop_px: int = 384
    scale_jitter: float = 2.0
    learning_rate: float = 0.0
    loss: str = "bce_dice"
    sampler: str = "weighted"
    min_share: float = 0.0
    synthetic_share: float = 0.0
    seed: int = 1
    device: str = "auto"
    resume: bool = True
    cache: str = ""
    name: str = ""
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluateModel:
    """Score a model on a folder of labelled tiles.

    The `Result.values` hold at least ``iou``, ``f1``, ``precision``, ``recall``, ``relaxed_f1``,
    ``threshold`` and ``tiles``; ``roof_fpr`` where there are building masks, and ``recall_under_cars``,
    ``recall_under_trees`` and ``recall_under_shadows`` where there are occlusion masks.

    Attributes:
        model: Name or path of the model.
        folder: Folder with ``images/`` and ``masks/`` of equal stems (or another known layout).
        model_folders: Folders that hold model packages, besides the starter models.
        gsd_m: Ground resolution of tiles that state none, in metres; none: the model's own.
        splits: JSON file with the stems of each folder's ``train`` and ``validation`` tiles; empty: all
            tiles are scored.
        part: Which list of `splits` is scored.
        threshold: Probability from which a pixel is road; none: the model's own.
        report: Folder for triptychs and curves; empty: none.
        record: Write the scores onto the card of the model, in place of earlier ones of this folder and part.
        device: As in `SegmentRoads`.
    """

    model: str
    folder: str
    model_folders: tuple[str, ...] = ()
    gsd_m: float | None = None
    splits: str = ""
    part: str = "validation"
    threshold: float | None = None
    report: str = ""
    record: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class GenerateScenes:
    """Write a folder of generated, georeferenced scenes with exact labels.

    The folder has ``images/``, ``masks/`` (roads), ``building_masks/`` and ``occlusion_masks/`` (what hides
    a road: 1 a car, 2 a tree, 3 a shadow), so that `TrainModel` and `EvaluateModel` take it.

    Attributes:
        folder: Where; made if missing.
        count: Number of scenes.
        seed: Of the first scene's chance; equal seeds give equal scenes.
        size_px: Side of a scene.
        gsd_m: Ground resolution in metres; none: each scene its own, 0.3 to 1 m.
        style: Style of the towns; empty: each scene its own.
    """

    folder: str
    count: int = 24
    seed: int = 1
    size_px: int = 512
    gsd_m: float | None = None
    style: str = ""


Job = Union[SegmentRoads, VectorizeProbabilities, DescribeRaster, TrainModel, EvaluateModel, GenerateScenes]
JOB_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        SegmentRoads,
        VectorizeProbabilities,
        DescribeRaster,
        TrainModel,
        EvaluateModel,
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


Event = Union[Progress, Metric, Figure, Warning, Result, Failure]
EVENT_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Progress, Metric, Figure, Warning, Result, Failure)
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
