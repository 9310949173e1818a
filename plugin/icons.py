"""The plugin's icons, by path: Qt 6 has no compiled resources."""

from __future__ import annotations

from pathlib import Path

ICONS = Path(__file__).resolve().parent.parent / "resources" / "icons"
PLUGIN_ICON = ICONS / "aftermap.svg"
SEGMENT_ROADS_ICON = ICONS / "segment_roads.svg"
DETECT_BUILDINGS_ICON = ICONS / "detect_buildings.svg"
REVECTORIZE_ROADS_ICON = ICONS / "revectorize_roads.svg"
TRAIN_MODEL_ICON = ICONS / "train_model.svg"
EVALUATE_MODEL_ICON = ICONS / "evaluate_model.svg"
EXPORT_TILES_ICON = ICONS / "export_tiles.svg"
ASSESS_DAMAGE_ICON = ICONS / "assess_damage.svg"
EXPORT_DAMAGE_ICON = ICONS / "export_damage.svg"
DAMAGE_SUMMARY_ICON = ICONS / "damage_summary.svg"
MODELS_ICON = ICONS / "models.svg"
