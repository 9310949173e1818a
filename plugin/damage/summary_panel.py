"""The panel that counts the buildings of a damage layer by level, and has a sample of them reviewed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from qgis.core import (
    QgsCoordinateTransformContext,
    QgsFields,
    QgsGeometry,
    QgsMapLayer,
    QgsMapLayerProxyModel,
    QgsProject,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
)
from qgis.gui import (
    QgisInterface,
    QgsCollapsibleGroupBox,
    QgsDockWidget,
    QgsFieldComboBox,
    QgsMapLayerComboBox,
    QgsSpinBox,
)
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...core.damage_fields import Level
from ...core.errors import AftermapError
from ..idle_work import IdleWork
from ..run_folder import file_name
from ..translation import tr
from .buildings import is_damage_layer, levels_of, read_buildings
from .districts import Districts, name_districts
from .review import Review
from .review_panel import ReviewPanel, zoom_to
from .statistics import SAMPLE_SIZE, Interval
from .style import swatch
from .summary import Row, Summary, summarize, to_csv

COUNT_AFTER_MS = 300  # so that a burst of changes is counted once
LARGEST_SAMPLE = 2000
TABLE_ROOM_PX = 4
MOST_DISTRICT_ROWS = 12  # that are shown without scrolling


class SummaryPanel(QgsDockWidget):
    """Counts by level; what they rest on is said above them."""

    def __init__(self, iface: QgisInterface) -> None:
        """Count nothing yet."""
        super().__init__(tr("Damage Summary and Review"), iface.mainWindow())
        self.setObjectName("aftermapDamageSummary")
        self._iface = iface
        self._layer: QgsVectorLayer | None = None
        self.work = IdleWork(self)
        self.summary: Summary | None = None
        self.review_panel: ReviewPanel | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COUNT_AFTER_MS)
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._sort_layers()
        self._take_layer(self.layer_box.currentLayer())

    def show_layer(self, layer: QgsVectorLayer) -> None:
        """Count the buildings of a damage layer."""
        self._sort_layers()
        self.layer_box.setLayer(layer)

    def close_down(self) -> None:
        """End the review, and stop counting."""
        if self.review_panel is not None:
            self.review_panel.end()
        self._timer.stop()
        # A layer that goes with the project would have the next one counted, and nobody would stop that.
        self._timer.timeout.disconnect(self._count)
        self.layer_box.layerChanged.disconnect(self._take_layer)
        for signal in (QgsProject.instance().layersAdded, QgsProject.instance().layersRemoved):
            signal.disconnect(self._sort_layers)
        self.work.cancel()

    # ---------------------------------------------------------------------------------------- widgets

    def _make_widgets(self) -> None:
        polygons = QgsMapLayerProxyModel.Filter.PolygonLayer
        self.layer_box = QgsMapLayerComboBox()
        self.layer_box.setFilters(polygons)
        self.basis = QLabel()
        self.basis.setObjectName("basis")
        self.basis.setWordWrap(True)
        self.levels = _table("levels")
        self.review_button = QPushButton(tr("Review a Sample…"))
        self.review_button.setObjectName("review")
        self.review_button.setToolTip(
            tr("Look at a random sample of each level; corrected counts with intervals come of it")
        )
        self.sample_size = QgsSpinBox()
        self.sample_size.setRange(1, LARGEST_SAMPLE)
        self.sample_size.setValue(SAMPLE_SIZE)
        self.sample_size.setClearValue(SAMPLE_SIZE)
        self.sample_size.setSuffix(tr(" buildings"))
        self.district_box = QgsMapLayerComboBox()
        self.district_box.setFilters(polygons)
        self.district_box.setAllowEmptyLayer(True)
        self.district_box.setLayer(None)
        self.district_field = QgsFieldComboBox()
        self.district_field.setAllowEmptyFieldName(True)
        self.districts = _table("districts")
        self.districts.hide()
        self.first = QListWidget()
        self.first.setObjectName("first")
        self.first.setToolTip(tr("By probability of destruction times area; a click shows the building"))
        self.save_button = QPushButton(tr("Save as a Table…"))
        self.save_button.setObjectName("save")
        self.message = QLabel()
        self.message.setObjectName("message")
        self.message.setWordWrap(True)

    def _lay_out(self) -> None:
        self._review_place = QVBoxLayout()
        self._review_place.setContentsMargins(0, 0, 0, 0)
        controls = QWidget()
        row = QHBoxLayout(controls)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.review_button, 1)
        row.addWidget(self.sample_size)
        districts = QgsCollapsibleGroupBox(tr("By districts"))
        form = QFormLayout(districts)
        form.addRow(tr("Polygons"), self.district_box)
        form.addRow(tr("Name"), self.district_field)
        form.addRow(self.districts)
        self.districts_note = QLabel()
        self.districts_note.setObjectName("districtsNote")
        self.districts_note.setWordWrap(True)
        form.addRow(self.districts_note)
        first = QgsCollapsibleGroupBox(tr("Where to look first"))
        first.setCollapsed(True)
        QVBoxLayout(first).addWidget(self.first)
        self._counts = QWidget()
        counts = QVBoxLayout(self._counts)
        counts.setContentsMargins(0, 0, 0, 0)
        for widget in (self.basis, self.levels, controls, self.message, districts, first):
            counts.addWidget(widget)
        counts.addWidget(self.save_button, 0, Qt.AlignmentFlag.AlignLeft)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.layer_box)
        layout.addLayout(self._review_place)
        layout.addWidget(self._counts)
        layout.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidget(content)
        self.setWidget(area)

    def _connect(self) -> None:
        self.layer_box.layerChanged.connect(self._take_layer)
        self.district_box.layerChanged.connect(self._take_districts)
        self.district_field.fieldChanged.connect(lambda _: self._timer.start())
        self._timer.timeout.connect(self._count)
        self.review_button.clicked.connect(self.start_review)
        self.save_button.clicked.connect(self._save)
        self.first.itemClicked.connect(self._zoom)
        for signal in (QgsProject.instance().layersAdded, QgsProject.instance().layersRemoved):
            signal.connect(self._sort_layers)

    # --------------------------------------------------------------------------------------- counting

    def _sort_layers(self, _: object = None) -> None:
        """Offer damage layers for counting, and the other polygons as districts."""
        layers = list(QgsProject.instance().mapLayers().values())
        damage = [layer for layer in layers if is_damage_layer(layer)]
        self.layer_box.setExceptedLayerList([layer for layer in layers if layer not in damage])
        self.district_box.setExceptedLayerList(damage)

    def _take_layer(self, layer: QgsMapLayer | None) -> None:
        if self.review_panel is not None:
            self.review_panel.end()
        self._layer = layer if is_damage_layer(layer) else None
        self.summary = None
        self.work.cancel()
        self._show()
        if self._layer is not None:
            for signal in (layer.dataChanged, layer.afterCommitChanges, layer.subsetStringChanged):
                signal.connect(self._timer.start)
            self._count()

    def _take_districts(self, layer: QgsMapLayer | None) -> None:
        self.district_field.setLayer(layer)
        if layer is not None:
            self.district_field.setField(_name_field(layer.fields()))
        self._timer.start()

    def _count(self) -> None:
        if self._layer is None or QgsProject.instance().mapLayer(self._layer.id()) is None:
            return
        layer, project, districts = self._layer, QgsProject.instance(), None
        chosen = self.district_box.currentLayer()
        if chosen is not None:
            name = self.district_field.currentField()
            districts = Districts(QgsVectorLayerFeatureSource(chosen), name, chosen.crs())
        steps = _counting(layer, levels_of(layer), districts, project.transformContext())
        self.work.start(steps, self._take)

    def _take(self, summary: Summary) -> None:
        self.summary = summary
        self._show()

    # ---------------------------------------------------------------------------------------- showing

    def _show(self) -> None:
        summary = self.summary
        for widget in (self.levels, self.save_button, self.review_button):
            widget.setEnabled(summary is not None)
        if summary is None:
            self.basis.setText(
                tr("Counting …")
                if self._layer is not None
                else tr("There is no layer of building damage yet.")
            )
            self.basis.setStyleSheet("")
            self.levels.setRowCount(0)
            self.districts.hide()
            self.first.clear()
            return
        self.basis.setText(_basis(summary))
        self.basis.setStyleSheet("" if summary.has_estimates else UNREVIEWED)
        self._show_levels(summary)
        self._show_districts(summary)
        self._show_first(summary)

    def _show_levels(self, summary: Summary) -> None:
        rows = [[_level_item(row), *_numbers(row, summary.has_estimates)] for row in summary.rows]
        area = _hectares(sum(row.area_m2 for row in summary.rows))
        if summary.has_estimates:
            heads = [tr("Level"), tr("On the map"), tr("Corrected, 95 % interval")]
            total = [tr("all"), _two_lines(f"{summary.count:n}", area), ""]
        else:
            heads = [tr("Level"), tr("Buildings"), tr("Area (ha)")]
            total = [tr("all"), f"{summary.count:n}", area]
        _fill(self.levels, heads, [*rows, total])

    def _show_districts(self, summary: Summary) -> None:
        self.districts.setVisible(bool(summary.districts))
        heads = [tr("District"), *(row.level.name for row in summary.rows)]
        rows = []
        for name, counted in summary.districts.items():
            rows.append([name or tr("elsewhere"), *map(_district_item, counted)])
        _fill(self.districts, heads, rows, MOST_DISTRICT_ROWS)
        self.districts_note.setText(
            tr(
                "On the map, and corrected with 95 % intervals by the sample of the whole layer, as if the "
                "model erred alike in all districts."
            )
            if summary.has_estimates
            else tr("The model's counts, until a sample has been reviewed.")
        )

    def _show_first(self, summary: Summary) -> None:
        swatches = {row.level.code: swatch(row.level.colour) for row in summary.rows}
        self.first.clear()
        for place, building in enumerate(summary.first, start=1):
            text = tr("{}.  {:.0f} m², destroyed: {:.0f} %").format(
                place, building.area_m2, 100 * building.triage / building.area_m2
            )
            item = QListWidgetItem(swatches.get(building.level, QIcon()), text, self.first)
            item.setData(Qt.ItemDataRole.UserRole, building.id)

    def _zoom(self, item: QListWidgetItem) -> None:
        feature = self._layer.getFeature(item.data(Qt.ItemDataRole.UserRole))
        if feature.isValid() and feature.hasGeometry():
            canvas, footprint = self._iface.mapCanvas(), QgsGeometry(feature.geometry())
            zoom_to(canvas, self._layer, footprint)
            canvas.flashGeometries([footprint], self._layer.crs())

    def _save(self) -> None:
        folder = Path(self._layer.source().partition("|")[0]).parent
        path, _ = QFileDialog.getSaveFileName(
            self,
            tr("Save as a Table"),
            str(folder / f"{file_name(self._layer.name())}_summary.csv"),
            tr("CSV files") + " (*.csv)",
        )
        if path:
            self.save_table(Path(path))

    def save_table(self, path: Path) -> None:
        """Write what is shown as CSV."""
        try:
            path.write_text(to_csv(self.summary), encoding="utf-8")
        except OSError as error:
            self.message.setText(tr("{} cannot be written: {}").format(path, error.strerror or error))

    # ----------------------------------------------------------------------------------------- review

    def start_review(self) -> None:
        """Begin to review a sample, or go on where the last review stopped."""
        try:
            review = Review(self._layer, self.sample_size.value(), self)
        except AftermapError as error:
            self.message.setText(str(error))
            return
        self.message.clear()
        self._counts.hide()
        self.layer_box.setEnabled(False)
        self.review_panel = ReviewPanel(review, self._iface.mapCanvas())
        self.review_panel.ended.connect(self._end_review)
        self._review_place.addWidget(self.review_panel)
        self.review_panel.setFocus()

    def _end_review(self) -> None:
        panel, self.review_panel = self.review_panel, None
        self._review_place.removeWidget(panel)
        panel.hide()
        panel.deleteLater()
        self._counts.show()
        self.layer_box.setEnabled(True)
        self._iface.mapCanvas().refresh()
        self._timer.start()


def _counting(
    layer: QgsVectorLayer,
    levels: Sequence[Level],
    districts: Districts | None,
    transforms: QgsCoordinateTransformContext,
) -> Generator[None, None, Summary]:
    """Count the buildings of a layer as it is now, a step a building."""
    source, fields, crs = QgsVectorLayerFeatureSource(layer), QgsFields(layer.fields()), layer.crs()
    buildings = []
    for building in read_buildings(source, fields):
        buildings.append(building)
        yield
    if districts is None:
        return summarize(buildings, levels)
    named, names = yield from name_districts(source, crs, districts, transforms)
    return summarize(buildings, levels, named, names)


UNREVIEWED = "background: #fdf0d5; color: #5a3d00; padding: 6px; border: 1px solid #e0b860;"


def _basis(summary: Summary) -> str:
    """What the counts rest on, in words."""
    if not summary.reviewed:
        return tr(
            "<b>Model count, unreviewed.</b> Nobody has looked yet at whether the model is right here; on an "
            "event that it was not trained on, it is often wrong. Review a sample for counts with intervals."
        )
    reviewed = tr("<b>{} of {} buildings reviewed.</b>").format(summary.reviewed, summary.count)
    if not summary.has_estimates:
        return f"{reviewed} " + tr(
            "The counts are still the model's: the review has not yet reached enough buildings of each level."
        )
    besides = summary.reviewed - summary.sampled
    text = f"{reviewed} " + tr(
        "Corrected counts are estimated from the random sample of {}, with 95 % intervals."
    ).format(summary.sampled)
    if besides:
        text += " " + tr("{} that were reviewed besides do not count for it.").format(besides)
    return text


def _numbers(row: Row, has_estimates: bool) -> list[str]:
    count, area = f"{row.count:n}", _hectares(row.area_m2)
    if not has_estimates:
        return [count, area]
    if row.estimate is None:
        return [_two_lines(count, area), "–"]
    return [
        _two_lines(count, area),
        _two_lines(_interval(row.estimate.count, _whole), _interval(row.estimate.area_m2, _hectares)),
    ]


def _two_lines(count: str, area_ha: str) -> str:
    return f"{count}\n{area_ha} " + tr("ha")


def _interval(interval: Interval, text: Callable[[float], str]) -> str:
    return f"{text(interval.value)} ({text(interval.low)} – {text(interval.high)})"


def _whole(value: float) -> str:
    return f"{round(value):n}"


def _hectares(area_m2: float) -> str:
    return f"{area_m2 / 1e4:.2f}"


def _level_item(row: Row) -> QTableWidgetItem:
    item = QTableWidgetItem(swatch(row.level.colour), row.level.name)
    item.setToolTip(f"EMS: {row.level.ems}; UNOSAT: {row.level.unosat}")
    return item


def _district_item(row: Row) -> QTableWidgetItem:
    text, area = f"{row.count:n}", tr("{} ha").format(_hectares(row.area_m2))
    if row.estimate:
        text += f"\n{_interval(row.estimate.count, _whole)}"
        area = tr("{} on the map, {} corrected").format(area, _interval(row.estimate.area_m2, _hectares))
    return _item(text, area)


def _item(text: str, tip: str = "") -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setToolTip(tip)
    return item


def _table(name: str) -> QTableWidget:
    table = QTableWidget()
    table.setObjectName(name)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    table.setWordWrap(False)
    table.verticalHeader().hide()
    table.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    return table


def _fill(
    table: QTableWidget,
    heads: Sequence[str],
    rows: Sequence[Sequence[str | QTableWidgetItem]],
    most_rows: int = 100,
) -> None:
    """Show rows of texts or items, numbers to the right, as high as they are."""
    table.setColumnCount(len(heads))
    table.setHorizontalHeaderLabels(heads)
    table.setRowCount(len(rows))
    for place, row in enumerate(rows):
        for column, cell in enumerate(row):
            item = cell if isinstance(cell, QTableWidgetItem) else QTableWidgetItem(cell)
            if column:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            table.setItem(place, column, item)
    table.resizeRowsToContents()
    table.resizeColumnsToContents()
    table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    height = table.horizontalHeader().sizeHint().height() + TABLE_ROOM_PX
    height += sum(table.rowHeight(row) for row in range(min(len(rows), most_rows)))
    if table.horizontalScrollBar().isVisible():
        height += table.horizontalScrollBar().height()
    table.setFixedHeight(height)


def _name_field(fields: QgsFields) -> str:
    """The field that most likely has the districts' names: one that says so, else the first text."""
    texts = [field.name() for field in fields if not field.isNumeric()]
    return next((name for name in texts if "name" in name.lower()), texts[0] if texts else "")
