"""What a network can be trained for on tiles and masks: which class they mark, and how it is called."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import JobError


@dataclass(frozen=True)
class TileTask:
    """A task with one class, in an image and a mask of equal size.

    Attributes:
        name: As jobs and cards call it.
        title: As a person does, at the beginning of a sentence.
        class_name: What a pixel of the class is called, in the singular.
        colour: Of the class, as ``#rrggbb``.
        heads: Outputs of a new network; the first is the class, the others help it to learn.
        mask_folders: Folders beside the images that hold its masks, before those of any class are looked for.
        is_linear: Whether the class forms a network of lines, which topology scores judge.
    """

    name: str
    title: str
    class_name: str
    colour: str
    heads: tuple[str, ...]
    mask_folders: tuple[str, ...] = ()
    is_linear: bool = False


BUILDING_FOLDERS = ("building_masks", "buildings")

ROADS = TileTask("roads", "Roads", "road", "#e6005a", ("road", "building"), is_linear=True)
BUILDINGS = TileTask("buildings", "Buildings", "building", "#e6550d", ("building",), BUILDING_FOLDERS)
TILE_TASKS = {task.name: task for task in (ROADS, BUILDINGS)}


def find_tile_task(name: str) -> TileTask:
    """The task by its name.

    Raises:
        JobError: There is no such task.
    """
    if name not in TILE_TASKS:
        raise JobError(f"Tiles can be labelled for {' or '.join(TILE_TASKS)}, not for {name!r}: choose one.")
    return TILE_TASKS[name]
