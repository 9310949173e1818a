"""A model's card as a page that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ..core.cards import Card, Package
from .translation import tr

WARNING_STYLE = "background-color: #fdf0d5; color: #5a3d00"
NON_COMMERCIAL = ("-nc", " nc", "noncommercial", "non-commercial")


def is_non_commercial(card: Card) -> bool:
    """Whether the licence of the weights, or of what they learned from, excludes commercial use."""
    licences = (card.licence, *(str(data.get("licence", "")) for data in card.training_data))
    return any(mark in licence.lower() for licence in licences for mark in NON_COMMERCIAL)


def card_page(package: Package) -> str:
    """The card as HTML: what the model does and may be used for, how good it is, what it learned from."""
    card = package.card
    finest, coarsest = card.gsd_range_m
    parts = [f"<h2>{escape(card.title)}</h2>"]
    if is_non_commercial(card):
        parts.append(
            f"<p style='{WARNING_STYLE}'>&nbsp;<b>"
            + tr("Non-commercial use only")
            + "</b> "
            + tr("– the model, or data that it was trained on, may not be used commercially.")
            + "</p>"
        )
    facts = {
        tr("Name"): card.name,
        tr("Task"): card.task,
        tr("Tells apart"): ", ".join(str(one.get("name", "?")) for one in card.classes),
        tr("Licence"): card.licence or tr("not stated"),
        tr("Imagery"): tr("{} at {:g} to {:g} m, seen at {:g} m").format(
            ", ".join(dict.fromkeys(card.bands)), finest, coarsest, card.gsd_m
        ),
        tr("File"): str(package.path),
    }
    parts.append(_rows(facts))
    parts.append(f"<h3>{tr('How good it is')}</h3>")
    parts += [_scores(scores) for scores in card.metrics] or [f"<p>{tr('Nobody has measured it.')}</p>"]
    parts.append(f"<h3>{tr('What it was trained on')}</h3>")
    parts += [_data(data) for data in card.training_data] or [f"<p>{tr('The card does not say.')}</p>"]
    return "".join(parts)


def _scores(scores: Mapping[str, Any]) -> str:
    where = escape(str(scores.get("dataset", "?")))
    if scores.get("left_out"):
        where += " – <b>" + tr("never trained on") + "</b>"
    part = scores.get("part")
    head = f"<p><b>{where}</b>{f' ({escape(str(part))})' if part else ''}</p>"
    told = {k: v for k, v in scores.items() if k not in ("dataset", "part", "left_out") and v is not None}
    heads = {k: text for k, text in _headlines().items() if k in told and not isinstance(told[k], Mapping)}
    first = {text: _value(told.pop(name)) for name, text in heads.items()}
    tables = "".join(_matrix(value) for value in told.values() if _is_matrix(value))
    return f"{head}{_rows(first)}<p><small>{_listed(told)}</small></p>{tables}"


def _headlines() -> dict[str, str]:
    """The scores that are read first, by their names on cards, with what a person calls them."""
    return {
        "iou": "IoU",
        "f1": "F1",
        "precision": tr("Precision"),
        "recall": tr("Recall"),
        "relaxed_f1": tr("F1 within 3 pixels"),
        "apls": "APLS",
        "roof_fpr": tr("Share of roofs called road"),
        "building_f1": tr("F1 of the buildings' pixels"),
        "macro_f1": tr("Macro F1 of the levels"),
        "positive_f1": tr("F1, destroyed or not"),
        "auc_within_tiles": tr("AUC within tiles"),
        "auc": "AUC",
        "recall_at_1pct_false_alarms": tr("Recall at 1 % false alarms"),
        "buildings": tr("Buildings"),
        "tiles": tr("Tiles"),
    }


def _data(data: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in data.items() if k not in ("name", "licence")}
    licence = escape(str(data.get("licence") or tr("licence not stated")))
    return f"<p><b>{escape(str(data.get('name', '?')))}</b> – {licence}<br>{_listed(rest)}</p>"


def _listed(values: Mapping[str, Any]) -> str:
    """Names and values one after the other; tables are left out."""
    told = ((_words(name), _value(value)) for name, value in values.items() if not _is_matrix(value))
    return "; ".join(f"{escape(name)} {value}" for name, value in told)


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return "(" + _listed(value) + ")"
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and all(isinstance(one, (int, float)) for one in value):
            return "{} ({} – {})".format(*map(_value, value))  # a score with its interval
        return ", ".join(_value(one) for one in value)
    return escape(str(value))


def _is_matrix(value: Any) -> bool:
    """Whether this is a confusion matrix: names, and counts with a row of the truth each."""
    return isinstance(value, Mapping) and {"names", "counts"} <= set(value)


def _matrix(matrix: Mapping[str, Any]) -> str:
    names = [str(name) for name in matrix["names"]]
    heads = "".join(f"<td><i>{escape(name)}</i></td>" for name in ("", *names))
    rows = "".join(
        f"<tr><td><i>{escape(name)}</i></td>"
        + "".join(f"<td align='right'>{escape(str(count))}</td>" for count in counts)
        + "</tr>"
        for name, counts in zip(names, matrix["counts"])
    )
    title = tr("True levels from top to bottom, named ones from left to right:")
    return f"<p>{title}</p><table cellpadding='3'><tr>{heads}</tr>{rows}</table>"


def _rows(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td style='padding-right: 14px'>{escape(name)}</td><td>{escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def _words(name: str) -> str:
    return name.replace("_", " ")
