"""Writes a model package whose network calls bright pixels road and building; the worker's Python runs it.

``python -I make_model.py <checkout> <package>``
"""

import importlib.util
import sys
from pathlib import Path

checkout, path = Path(sys.argv[1]), Path(sys.argv[2])
spec = importlib.util.spec_from_file_location(
    "aftermap", checkout / "__init__.py", submodule_search_locations=[str(checkout)]
)
sys.modules["aftermap"] = importlib.util.module_from_spec(spec)

import torch  # noqa: E402  only the worker's Python has it

from aftermap.core.cards import Card  # noqa: E402
from aftermap.core.networks.package import save_package  # noqa: E402
from aftermap.core.networks.unet import build_network  # noqa: E402

BRIGHT = 0.45
STEEPNESS = 40.0

architecture = {"name": "textbook_unet", "bands": 3, "heads": ["road", "building"], "width": 2}
network = build_network(architecture).eval()
with torch.no_grad():
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.zero_()
            if module.bias is not None:
                module.bias.zero_()
    # The mean of the bands goes through the topmost skip connection alone.
    network.down[0][0][0].weight[0, :, 1, 1] = 1 / 3
    network.down[0][1][0].weight[0, 0, 1, 1] = 1
    network.up[-1][0][0].weight[0, 2, 1, 1] = 1
    network.up[-1][1][0].weight[0, 0, 1, 1] = 1
    network.head.weight[:, 0] = STEEPNESS
    network.head.bias[:] = -STEEPNESS * BRIGHT

card = Card(
    name="bright",
    title="Bright pixels are road",
    task="roads",
    architecture=architecture,
    classes=({"code": 1, "name": "road", "colour": "#e6006e"},),
    bands=("red", "green", "blue"),
    radiometry={"scaling": "unit", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    gsd_m=0.5,
    gsd_range_m=(0.1, 2.0),
    tile_px=128,
    margin_px=16,
    stride_px=16,
    threshold=0.4,
)
save_package(path, network, card)
