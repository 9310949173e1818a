"""Model cards: what a package says about its network, and which one fits a raster.

Standard library only, Python 3.9: the plugin lists models with it, the worker runs them by it.
A package is a folder, or one ``.aftermap`` zip, with ``card.json`` and ``weights.safetensors``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ModelError

CARD_NAME = "card.json"
WEIGHTS_NAME = "weights.safetensors"
PACKAGE_SUFFIX = ".aftermap"
CARD_FORMAT = "aftermap-model/1"
UNCALIBRATED_THRESHOLD = 0.4
"""For outputs without a threshold of their own: what calibration most often finds, a little below a half."""
STARTER_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "models"


@dataclass(frozen=True)
class Card:
    """Everything that a run needs to know about a network.

    Attributes:
        name: Short name, also what a user types.
        title: One line for a list.
        task: ``roads``, ``buildings`` or ``damage``.
        architecture: Keyword arguments of `networks.unet.build_network`.
        classes: One object a class: ``code``, ``name``, ``colour``; of levels of damage also ``codes`` (those
            that were merged into it) and ``training_buildings``.
        bands: Names of the input bands in order (``red``, ``green``, ``blue`` …).
        radiometry: ``scaling``, and ``mean`` and ``std`` of the scaled bands (0 to 1).
        gsd_m: Ground resolution at which the network works, in metres.
        gsd_range_m: Ground resolutions of rasters that it accepts; they are resampled to `gsd_m`.
        tile_px: Side of the tile that the network sees, a multiple of `stride_px`.
        margin_px: Context margin: how far from a tile's border probabilities still depend on what
            lies beyond it, a multiple of `stride_px`; how it was measured stands in `training`.
        stride_px: Total stride of the network.
        threshold: Probability from which a pixel counts.
        threshold_low: Hysteresis: pixels from here on count where they hang on one over `threshold`;
            none: no hysteresis.
        calibration: How the threshold was found, and what makes the probabilities true: logits are divided by
            ``temperature``, then ``bias`` is added. With a ``veto_power`` k, the first output is multiplied
            by (1 − p)^k of the output ``building``.
        metrics: One object per data set: its name, how many tiles, IoU, F1 and so on.
        training_data: One object per data set: name, licence, counts.
        training: Configuration of the training.
        versions: Versions of the software.
        licence: Licence of the weights.
        weights_sha256: Of `weights.safetensors`.
    """

    name: str
    title: str
    task: str
    architecture: Mapping[str, Any]
    classes: tuple[Mapping[str, Any], ...]
    bands: tuple[str, ...]
    radiometry: Mapping[str, Any]
    gsd_m: float
    gsd_range_m: tuple[float, float]
    tile_px: int
    margin_px: int
    stride_px: int
    threshold: float
    threshold_low: float | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    training_data: tuple[Mapping[str, Any], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    weights_sha256: str = ""

    @property
    def levels_supported(self) -> tuple[str, ...]:
        """Names of the levels of damage that the model tells apart, from the least; of other tasks none."""
        return tuple(str(one["name"]) for one in self.classes) if self.task == "damage" else ()

    def to_json(self) -> str:
        """The card as the text of ``card.json``; with `levels_supported`, for those who read it there."""
        body = {"format": CARD_FORMAT, **dataclasses.asdict(self)}
        if self.levels_supported:
            body["levels_supported"] = self.levels_supported
        return json.dumps(body, indent=1, ensure_ascii=False)


@dataclass(frozen=True)
class Package:
    """A model on disk: where it lies and what its card says."""

    path: Path
    card: Card


def card_from_json(text: str, path: Path) -> Card:
    """Read a card.

    Raises:
        ModelError: It is no card of this format; `path` is named in the message.
    """
    try:
        body: dict[str, Any] = json.loads(text)
        version = body.pop("format", None)
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"The card of {path} is not readable: {error}. Get the package again.") from error
    if version != CARD_FORMAT:
        raise ModelError(
            f"{path} is of format {version!r}; this Aftermap reads {CARD_FORMAT!r}: "
            "update Aftermap, or the model."
        )
    known = {f.name for f in dataclasses.fields(Card)}
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in body.items() if k in known
    }
    try:
        return Card(**values)
    except TypeError as error:
        raise ModelError(f"The card of {path} is incomplete: {error}. Get the package again.") from error


def read_package(path: Path) -> Package:
    """Read the card of a package, folder or zip; the weights are not touched.

    Raises:
        ModelError: There is no package at `path`.
    """
    try:
        if path.is_dir():
            text = (path / CARD_NAME).read_text(encoding="utf-8")
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(CARD_NAME).decode("utf-8")
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is no model package ({error}): choose a {PACKAGE_SUFFIX} file, "
            f"or a folder with {CARD_NAME}."
        ) from error
    return Package(path, card_from_json(text, path))


def heads_of(card: Card) -> tuple[str, ...]:
    """Names of the network's outputs, the one that the card's threshold is for first.

    A network may see more than its task asks for: one for roads that has learnt roofs finds buildings.
    """
    stated = card.architecture.get("heads")
    return tuple(stated) if stated else tuple(str(c["name"]) for c in card.classes)


def threshold_of(card: Card, head: str) -> float:
    """The probability from which a pixel counts for an output of the network.

    That of the first output is the card's; those of others stand in its calibration under ``thresholds``.
    """
    if heads_of(card)[:1] == (head,):
        return card.threshold
    stated = card.calibration.get("thresholds", {})
    return float(stated.get(head, UNCALIBRATED_THRESHOLD))


def list_packages(folders: Iterable[Path] = (), task: str = "", head: str = "") -> list[Package]:
    """The starter models and those in `folders`, by name; what cannot be read is left out.

    Args:
        folders: Searched after the starter folder; one that is missing is skipped.
        task: Only models of this task; empty: all.
        head: Only models whose network has this output; empty: all.
    """
    found: list[Package] = []
    for folder in (STARTER_FOLDER, *folders):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.suffix == PACKAGE_SUFFIX or (path / CARD_NAME).is_file():
                try:
                    package = read_package(path)
                except ModelError:
                    continue  # a broken file beside good ones must not hide these; naming it explains it
                if task in ("", package.card.task) and (not head or head in heads_of(package.card)):
                    found.append(package)
    return found


def find_package(
    name: str,
    folders: Iterable[Path] = (),
    task: str = "",
    bands: int = 3,
    gsd_m: float | None = None,
    *,
    head: str = "",
    prefers: str = "",
) -> Package:
    """The package that a user means by `name`: a path, a listed name, or the best fit if empty.

    Args:
        name: What the user said.
        folders: As in `list_packages`.
        task: Likewise.
        bands: Of the raster, for the best fit.
        gsd_m: Likewise; none: not known.
        head: As in `list_packages`.
        prefers: Task whose models are the best fit before those of others.

    Raises:
        ModelError: Nothing by that name, or nothing that fits.
    """
    packages = list_packages(folders, task, head)
    if not name:
        return best_fit(packages, bands, gsd_m, prefers)
    for package in packages:
        if package.card.name == name:
            return package
    if Path(name).exists():
        package = read_package(Path(name))
        if task and package.card.task != task:
            raise ModelError(f"{name} is a model for {package.card.task}, not for {task}: choose another.")
        if head and head not in heads_of(package.card):
            raise ModelError(
                f"{name} is a model for {package.card.task} without the class {head}: choose another."
            )
        return package
    listed = ", ".join(p.card.name for p in packages) or "none"
    raise ModelError(
        f"There is no model {name!r}: give the path of a package, or one of these names: {listed}."
    )


def find_damage_package(name: str, folders: Iterable[Path] = ()) -> Package:
    """The damage model that a user means by `name`; if empty the first of their own, else the starter.

    What somebody adds or trains has seen real events; the starter has seen generated ones.

    Raises:
        ModelError: There is none.
    """
    if name:
        return find_package(name, folders, "damage")
    packages = list_packages(folders, "damage")
    if not packages:
        raise ModelError(
            "There is no damage model: add one under Models…, or train one (aftermap train --task damage)."
        )
    return min(packages, key=lambda package: package.path.parent == STARTER_FOLDER)


def best_fit(packages: Sequence[Package], bands: int, gsd_m: float | None, prefers: str = "") -> Package:
    """The model whose bands the raster has (most of them used) and whose resolution lies nearest.

    A raster of one band fits a model of three: grey imagery is shown to it as equal bands. Models of the task
    `prefers` come before all others that fit.

    Raises:
        ModelError: None fits.
    """

    def distance(package: Package) -> tuple[bool, int, float, str]:
        card = package.card
        octaves = abs(math.log2(gsd_m / card.gsd_m)) if gsd_m else 0.0
        return (card.task != prefers, -len(card.bands), octaves, card.name)

    usable = max(bands, 3)
    fitting = [p for p in packages if len(p.card.bands) <= usable]
    if not fitting:
        raise ModelError(f"No model fits a raster of {bands} bands: train one, or choose a package file.")
    return min(fitting, key=distance)
