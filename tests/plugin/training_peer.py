"""A worker for the tests of the dialog: answers by the contract, and trains until it is told to stop.

Standard library only; it is started as the real one is. Every line that it gets goes to the file that
``AFTERMAP_PEER_LOG`` names. A folder that is called ``bad`` is refused; a model that is called ``crash``
ends the process.
"""

import json
import os
import struct
import sys
import zlib
from pathlib import Path

CLASSES = {"roads": "road", "buildings": "building", "damage": "building"}
LEVELS = [
    {"code": 1, "name": "no visible damage", "colour": "#2c7bb6"},
    {"code": 2, "name": "minor damage", "colour": "#fee090"},
    {"code": 3, "name": "major damage", "colour": "#f46d43"},
    {"code": 4, "name": "destroyed", "colour": "#a50026"},
]
SHARES = (0.0, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
STEPS = 40


def say(event, /, **fields):
    print(json.dumps({"type": event, **fields}), flush=True)


def fail(kind, message):
    say("Failure", kind=kind, message=message, traceback="")


def tiles_of(job, **more):
    west, south, size = 37.15, 37.05, 0.002
    return [
        {
            "folder": job["folders"][0],
            "stem": f"tile_{number}",
            "image": f"{job['folders'][0]}/images/tile_{number}.tif",
            "mask": f"{job['folders'][0]}/masks/tile_{number}.png",
            "width": 256,
            "height": 256,
            "gsd_m": None if "plain" in job["folders"][0] else 0.5,
            "shares": {CLASSES[job["task"]]: share},
            **({"levels": {"1": 20, "2": number // 5, "4": 8}} if job["task"] == "damage" else {}),
            "bounds": [west + size * number, south, west + size * (number + 1), south + size],
            "problem": "",
            **{name: value(number, share) for name, value in more.items()},
        }
        for number, share in enumerate(SHARES)
    ]


def write_tiles(job, tiles):
    path = Path(job["cache"]) / f"tiles-{job['type']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tiles), encoding="utf-8")
    return str(path)


def write_picture(path, grey):
    """A PNG of 30 × 10 pixels."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = b"".join(b"\0" + bytes([grey]) * 30 for _ in range(10))
    header = struct.pack(">IIBBBBB", 30, 10, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return str(path)


def scan(job):
    if job["folders"][0].endswith("bad"):
        return fail("DatasetError", "bad holds no tiles: choose another folder.")
    say("Progress", fraction=0.5, message="Reading tiles")
    tiles = tiles_of(job)
    values = {
        "folders": [
            {
                "folder": job["folders"][0],
                "layout": "images/ + masks/",
                "tiles": 11,
                "usable": 10,
                "unmatched": 1,
            }
        ],
        "tiles": 11,
        "usable": 10,
        "size_px": [256, 256],
        "gsd_m": [0.5, 0.5] if tiles[0]["gsd_m"] else None,
        "classes": [{"name": CLASSES[job["task"]], "code": 1, "share": 0.18}],
        "coding": "0 and 255",
        "problems": ["broken.tif cannot be read: replace it."],
        "problem_count": 1,
    }
    if job["task"] == "damage":
        counts = {"1": 200, "2": 5, "3": 0, "4": 80}
        values["levels"] = [{**one, "buildings": counts[str(one["code"])]} for one in LEVELS]
        values["events"] = ["somewhere-earthquake"]
    return say("Result", outputs={"tiles": write_tiles(job, tiles)}, values=values)


def plan(job):
    def part(number, share):
        return (
            "validation" if number % 5 == 0 else "train" if share >= job["min_share"] else "below_min_share"
        )

    tiles = tiles_of(job, part=part)
    counts = {
        name: sum(t["part"] == name for t in tiles) for name in ("train", "validation", "below_min_share")
    }
    findings = (
        ["The schedule never acts: a step of 30 epochs in a run of 5."] if job["schedule"] == "step" else []
    )
    values = {
        "train_tiles": counts["train"],
        "validation_tiles": counts["validation"],
        "below_min_share": counts["below_min_share"],
        "split": "by blocks of 500 m.",
        "share_all": 0.18,
        "share_kept": 0.2,
        "share_sampled": 0.22,
        "steps": job["steps"] or STEPS,
        "steps_per_epoch": 10,
        "batch_size": 4,
        "crop_px": 128,
        "learning_rate": job["learning_rate"] or 3e-4,
        "learning_rates": [[step, 3e-4 * (1 - step / STEPS)] for step in range(STEPS)],
        "positive_weight": 1.88,
        "positive_weight_formula": "√(0.78 / 0.22)",
        "constant_loss": 0.527,
        "findings": findings,
    }
    if job["task"] == "damage":
        for name in (
            "share_all",
            "share_kept",
            "share_sampled",
            "positive_weight",
            "positive_weight_formula",
        ):
            del values[name]
        values["levels"] = [
            {**LEVELS[0], "codes": [1], "merged": [], "train": 160, "validation": 40, "share": 0.7,
             "weight": 1.0, "formula": "√(160 / 160) = 1.00"},
            {**LEVELS[3], "codes": [2, 3, 4], "name": "destroyed or damaged", "train": 69, "validation": 16,
             "merged": ["minor damage", "major damage", "destroyed"], "share": 0.3,
             "weight": 1.52, "formula": "√(160 / 69) = 1.52"},
        ]  # fmt: skip
    outputs = {"tiles": write_tiles(job, tiles)}
    if job["preview"]:
        outputs["augmentation"] = write_picture(Path(job["preview"]) / "augmentation.png", 90)
    say("Result", outputs=outputs, values=values)


def find_rate(job):
    curve = [[10.0 ** (n / 10 - 6), 1 - n / 60, 1 - n / 60] for n in range(40)]
    for number, (rate, loss, smoothed) in enumerate(curve):
        say(
            "Metric",
            name="range_test",
            values={"learning_rate": rate, "loss": loss, "smoothed": smoothed},
            step=number,
        )
    say("Result", outputs={}, values={"learning_rate": 0.001, "curve": curve})


def train(job):
    figures = Path(job["output"]).with_suffix("")
    for step in range(1, STEPS + 1):
        values = {
            "loss": 1 / step,
            "bce": 0.8 / step,
            "learning_rate": 3e-4,
            "class_share": 0.2,
            "memory_mb": 2048,
            "device": "cpu",
        }
        say("Metric", name="training", values=values, step=step)
        say("Progress", fraction=step / STEPS / 2, message=f"Training: step {step} of {2 * STEPS}, 9 s left")
        if step % 10 == 0:
            scores = {
                "iou": step / 80,
                "f1": step / 60,
                "precision": 0.6,
                "recall": 0.5,
                "threshold": 0.4,
                "loss": 0.4,
                **({"macro_f1": step / 50, "score": step / 55} if job["task"] == "damage" else {}),
            }
            say("Metric", name="validation", values=scores, step=step)
            say("Figure", title="tile_0", path=write_picture(figures / "tile_0.png", step))
    say("Warning", message="The curves say underfitting: train longer.")
    if Path(job["output"]).stem == "crash":
        os._exit(3)
    for line in sys.stdin:
        log(line)
        if json.loads(line)["type"] == "Cancel":
            return fail("Cancelled", "Cancelled.")
        if json.loads(line)["type"] == "Finish":
            break
    worst = [{"stem": "tile_3", "image": "/no/such/tile_3.tif", "iou": 0.1, "precision": 0.2, "recall": None}]
    values = {
        "iou": 0.51,
        "f1": 0.67,
        "precision": 0.7,
        "recall": 0.65,
        "threshold": 0.41,
        "device": "the CPU",
    }
    if job["task"] == "damage":
        values = {
            **dict.fromkeys(("building_iou", "building_f1", "building_precision", "building_recall"), 0.71),
            "threshold": 0.41,
            "macro_f1": 0.83,
            "f1": {"no visible damage": 0.9, "destroyed or damaged": 0.76},
            "positive_f1": [0.88, 0.8, 0.93],
            "auc": [0.97, None, None],
            "auc_within_tiles": [None, None, None],
            "xview2_by_building": {"score": 0.62},
            "counts": {"no visible damage": 40, "destroyed or damaged": 16},
            "buildings": 56,
            "sets": [{"dataset": "tiles", "part": "validation", "macro_f1": 0.83, "f1": {"a": 0.9}}],
            "device": "the CPU",
        }
        worst = [
            {"stem": "tile_3", "image": "/no/such.tif", "buildings": 30, "wrong": 4, "building_iou": 0.6}
        ]
    outputs = {"model": job["output"], "report": str(figures / "report.html"), "figures": str(figures)}
    return say("Result", outputs=outputs, values={**values, "tile_scores": worst})


def copy(job):
    kept = sum(share >= job["min_share"] for share in SHARES)
    say("Result", outputs={}, values={"tiles": kept, "bytes_before": 9_000_000, "bytes_after": 2_000_000})


def compare(job):
    models = [
        {
            "name": name,
            "iou": 0.5,
            "iou_low": 0.4,
            "iou_high": 0.6,
            "f1": 0.66,
            "f1_low": 0.6,
            "f1_high": 0.7,
            "threshold": 0.4,
        }
        for name in job["models"]
    ]
    say(
        "Result",
        outputs={"report": "/no/such/report.html", "table": "/no/such/t.md"},
        values={"models": models, "tiles": 10},
    )


def log(line):
    with Path(os.environ["AFTERMAP_PEER_LOG"]).open("a", encoding="utf-8") as file:
        file.write(line)


ANSWERS = {
    "ScanTiles": scan,
    "PlanTraining": plan,
    "FindLearningRate": find_rate,
    "TrainModel": train,
    "CopyTiles": copy,
    "CompareRuns": compare,
}

for line in iter(sys.stdin.readline, ""):
    log(line)
    job = json.loads(line)
    if job["type"] in ANSWERS:
        ANSWERS[job["type"]](job)
