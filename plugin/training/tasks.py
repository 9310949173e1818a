"""What the pages of the dialog call things, for each task that a model can be trained for."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.tasks import TILE_TASKS
from ..translation import tr

DAMAGE = "damage"


@dataclass(frozen=True)
class Task:
    """Something that a model can be trained for, in words.

    Attributes:
        name: As jobs call it.
        title: In the list of tasks.
        tool: The algorithm that uses the model.
        head: Output that a network must have to start from it.
        is_linear: Whether the class forms a network of lines.
        hint: What a folder of tiles looks like.
        folder_hint: The same, in a few words.
        digitised: The vector layer that tiles can be made of; empty: they cannot be made here.
        usable: How many of the tiles can be used, as the name of that number.
        counts: How many of them train and judge, with two places for numbers.
        leaks: Why a split matters.
        sheet: The panels of a picture.
        scores: Of a round: name in the metric, text, and whether the curve is drawn pale.
        plain_loss: The loss of the training that may be compared, as a curve.
        judged_loss: That of the validation.
        constant_loss: What a guess that sees nothing costs.
        share: What the share in the batches is of.
        trained: That a model is trained, with places for its name and its score.
        best: Name of that score in the result.
    """

    name: str
    title: str
    tool: str
    head: str
    is_linear: bool
    hint: str
    folder_hint: str
    digitised: str
    usable: str
    counts: str
    leaks: str
    sheet: str
    scores: tuple[tuple[str, str, bool], ...]
    plain_loss: str
    judged_loss: str
    constant_loss: str
    share: str
    trained: str
    best: str

    @property
    def is_damage(self) -> bool:
        """Whether pairs of images and levels of damage take the place of tiles and one class."""
        return self.name == DAMAGE


def tasks() -> list[Task]:
    """All of them, the most usual first."""
    roads = _of_tiles("roads", tr("Roads"), tr("Segment Roads"), tr("digitised roads"))
    buildings = _of_tiles("buildings", tr("Buildings"), tr("Detect Buildings"), tr("digitised buildings"))
    return [roads, buildings, _damage()]


def task_named(name: str) -> Task:
    """The task that jobs call so; the first if there is none."""
    found = tasks()
    return next((task for task in found if task.name == name), found[0])


def _of_tiles(name: str, title: str, tool: str, digitised: str) -> Task:
    known = TILE_TASKS[name]
    return Task(
        name=name,
        title=title,
        tool=tool,
        head=known.class_name,
        is_linear=known.is_linear,
        hint=tr(
            "Choose a folder with images and masks: <i>images/</i> with <i>{}</i>, <i>sat/</i> with "
            "<i>map/</i>, or <i>name_sat</i> with <i>name_mask</i>. 100 to 500 tiles of your own place make "
            "the starter model a good one there."
        ).format(f"{(*known.mask_folders, 'masks')[0]}/"),
        folder_hint=tr("a folder of images and masks"),
        digitised=digitised,
        usable=tr("Usable tiles"),
        counts=tr("<b>{}</b> tiles train, <b>{}</b> judge"),
        leaks=tr(
            "Neighbouring tiles look alike: were they drawn at random, the network would be judged by what "
            "it has seen. Tiles of one scene or event, tiles that overlap and tiles of one block on the "
            "ground stay on one side."
        ),
        sheet=tr("The same validation tiles after each round: <i>image | truth | prediction</i>"),
        scores=(
            ("iou", "IoU", False),
            ("f1", "F1", False),
            ("precision", tr("precision"), True),
            ("recall", tr("recall"), True),
        ),
        plain_loss=tr("BCE in training"),
        judged_loss=tr("BCE in validation"),
        constant_loss=tr("BCE of a constant guess"),
        share=tr("Class share of the batches"),
        trained=tr("The model {} is trained: IoU {:.3f}."),
        best="iou",
    )


def _damage() -> Task:
    return Task(
        name=DAMAGE,
        title=tr("Building damage"),
        tool=tr("Assess Damage"),
        head="building",
        is_linear=False,
        hint=tr(
            "Choose a folder with pairs of images from before and after, laid out as xBD: <i>images/</i> "
            "with <i>name_pre_disaster</i> and <i>name_post_disaster</i>, and <i>labels/</i> (JSON) or "
            "<i>targets/</i> (rasters of 0 to 4) of the same names. Chips of one building each work too: "
            "<i>images/</i> and <i>masks/</i> with <i>damaged_…</i> and <i>intact_…</i>. Fifty buildings of "
            "a level are the least that can teach it."
        ),
        folder_hint=tr("a folder of image pairs with their labels"),
        digitised="",
        usable=tr("Usable pairs"),
        counts=tr("<b>{}</b> pairs train, <b>{}</b> judge"),
        leaks=tr(
            "Scenes of one event look alike: a model seems better there than it will be after the next "
            "event. To see how it does on another one, hold an event back, in a folder of its own or by "
            "lists."
        ),
        sheet=tr("The same validation pairs after each round: <i>before | after | truth | prediction</i>"),
        scores=(
            ("macro_f1", tr("macro F1 of the levels"), False),
            ("f1", tr("F1 of the buildings"), False),
            ("iou", tr("IoU of the buildings"), False),
        ),
        plain_loss=tr("BCE of the buildings in training"),
        judged_loss=tr("cross-entropy of the levels in validation"),
        constant_loss=tr("levels guessed by their frequency"),
        share=tr("Share of buildings in the batches"),
        trained=tr("The model {} is trained: macro F1 of the levels {:.3f}."),
        best="macro_f1",
    )
