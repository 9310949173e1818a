# Everything that a developer does with Aftermap. On a fresh Debian machine `make demo` and `make test`
# set up all that they need: system packages (as root, or with sudo), the worker's environment .venv and
# the environment .venv-qgis of the tests that run inside QGIS.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
unexport PYTHONHOME PYTHONPATH

# The system's Python: it is the one that has PyQGIS, whatever `python3` means in this shell.
PYTHON := /usr/bin/python3
# Installed before all else, so that nothing that depends on it chooses another build.
TORCH := torch==2.13.0
APT_PACKAGES := ca-certificates fonts-dejavu-core git python3-qgis python3-venv qgis xauth xvfb

WORKER := .venv/.ready
QGIS_TESTS := .venv-qgis/.ready

VERSION = $(shell sed -n 's/^version=//p' metadata.txt)
PROFILE := default
SCENE :=
GSD :=
OUT := resources/help/segment-roads.png
ZOO :=
DATA :=
FULL :=

# ------------------------------------------------------------------------------------- environments

.PHONY: setup system
setup: $(WORKER) $(QGIS_TESTS) ## install what is missing: system packages and both environments

system: # asks apt only for what dpkg does not know as installed
	@missing=(); \
	for package in $(APT_PACKAGES); do \
	  dpkg-query -W -f='$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || missing+=($$package); \
	done; \
	if (( $${#missing[@]} )); then \
	  as_root=(env DEBIAN_FRONTEND=noninteractive); \
	  if (( EUID )); then as_root=(sudo "$${as_root[@]}"); fi; \
	  echo "Installing $${missing[*]}"; \
	  "$${as_root[@]}" apt-get update -qq; \
	  "$${as_root[@]}" apt-get install -y -qq --no-install-recommends "$${missing[@]}"; \
	fi

$(WORKER): pyproject.toml | system
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -qq $(TORCH)
	.venv/bin/python -m pip install -qq --editable '.[worker,dev]'
	@printf %s "$$PWD" > $@

# It sees QGIS's Python modules, and no other package than the tests' own: a second numpy would break those.
$(QGIS_TESTS): pyproject.toml | system
	$(PYTHON) -m venv --system-site-packages .venv-qgis
	.venv-qgis/bin/python -m pip install -qq 'pytest>=8' pytest-timeout pytest-qgis==2.1.0
	.venv-qgis/bin/python -m pip install -qq --no-deps --editable .
	@printf %s "$$PWD" > $@

# An environment names the checkout that it was made for: where that was moved or copied, it is made anew.
$(foreach stamp,$(wildcard $(WORKER) $(QGIS_TESTS)),\
  $(if $(findstring >$(CURDIR)<,>$(file <$(stamp))<),,$(eval $(stamp): FORCE)))
.PHONY: FORCE
FORCE:

# ------------------------------------------------------------------------------------------- checks

.PHONY: test test-core test-plugin lint zoo bench
test: $(WORKER) $(QGIS_TESTS) ## run all tests: the core without QGIS, then the plugin in a real QGIS
	@status=0; \
	$(MAKE) --no-print-directory --keep-going test-core test-plugin || status=1; \
	echo; tail --quiet --lines=1 build/test-core.log build/test-plugin.log; \
	exit $$status

# A file's tests share their trainings, so each file stays in one process; and processes that are as many as the
# cores want one thread each.
test-core: $(WORKER) ## run the core's tests only
	@mkdir -p build
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist loadfile tests/core 2>&1 | tee build/test-core.log

test-plugin: $(WORKER) $(QGIS_TESTS) ## run the plugin's tests only
	@mkdir -p build
	QT_QPA_PLATFORM=offscreen .venv-qgis/bin/python -m pytest tests/plugin 2>&1 | tee build/test-plugin.log

zoo: $(WORKER) ## run on a folder of odd rasters: each gives roads, or a sentence (ZOO=path)
	.venv/bin/python tests/tools/zoo.py "$(ZOO)"

bench: $(WORKER) ## measure time and memory beside a plain loop (FULL=1: the real network on the largest raster too)
	.venv/bin/python tests/tools/bench.py $(if $(FULL),--full)
	.venv/bin/python tests/tools/bench_index.py
	.venv/bin/python tests/tools/bench_index.py --tiles 2000 --size 128

lint: $(WORKER) ## check format, style and types
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy core

# --------------------------------------------------------------------------------------------- QGIS

# A profile of QGIS that nobody misses: the plugin is switched on, and linked to this checkout.
PROFILES := build/qgis
PLUGINS := $(PROFILES)/profiles/default/python/plugins
IN_PROFILE = QGIS_CUSTOM_CONFIG_PATH="$$PWD/$(PROFILES)"

$(PLUGINS)/aftermap: | system
	@mkdir -p $(PLUGINS) $(PROFILES)/profiles/default/QGIS
	@printf '%s\n' '[PythonPlugins]' aftermap=true processing=true '[qgis]' checkVersion=false showTips=false \
	  '[aftermap]' "run_folder=$$PWD/$(PROFILES)/runs" \
	  > $(PROFILES)/profiles/default/QGIS/QGIS3.ini
	@ln -s ../../../../../.. $@

# The scene that is looked at: the user's, or a generated one.
SEED := 4
GENERATED := demo/generated/images/$(SEED)_0000.tif
SCENE_FILE = $(or $(SCENE),$(GENERATED))
SCENE_RULE = $(if $(SCENE),,$(GENERATED))

$(GENERATED): | $(WORKER)
	.venv/bin/aftermap generate demo/generated --count 1 --seed $(SEED) --size 2048 --gsd 0.5 --style suburb

.PHONY: demo qgis screenshot train-screenshots damage-screenshots link package
demo: $(SCENE_RULE) | $(WORKER) $(PLUGINS)/aftermap ## roads and damage in a headless QGIS, drawn (SCENE=path, GSD=metres)
	$(IN_PROFILE) QT_QPA_PLATFORM=offscreen PYTHONPATH=$(PLUGINS) \
	  $(PYTHON) tests/tools/demo.py "$(SCENE_FILE)" --gsd "$(GSD)" --out demo

qgis: $(SCENE_RULE) | $(WORKER) $(PLUGINS)/aftermap ## open QGIS with the plugin and a scene, in a throw-away profile
	qgis --profiles-path $(PROFILES) --noversioncheck "$(SCENE_FILE)"

screenshot: $(SCENE_RULE) | $(WORKER) $(PLUGINS)/aftermap ## click the button in a QGIS without a display, and photograph it (OUT=picture)
	AFTERMAP_SCREENSHOT="$(OUT)" xvfb-run --auto-servernum --server-args='-screen 0 1280x800x24 -dpi 96' \
	  qgis --profiles-path $(PROFILES) --noversioncheck --nologo --code tests/tools/screenshot.py "$(SCENE_FILE)"
# A palette: a quarter of the bytes.
	.venv/bin/python -c 'import sys; from PIL import Image; path = sys.argv[1]; picture = Image.open(path); \
	  picture.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE).save(path, optimize=True)' "$(OUT)"

TILES := demo/tiles
TASK :=
$(TILES): | $(WORKER)
	.venv/bin/aftermap generate $@ --count 60 --seed 11 --size 256

train-screenshots: | $(TILES) $(WORKER) $(PLUGINS)/aftermap ## train in a QGIS without a display, and photograph the dialog (TILES=folder, TASK=damage)
	AFTERMAP_TILES="$(TILES)" AFTERMAP_TASK="$(TASK)" AFTERMAP_PICTURES="$(dir $(OUT))" xvfb-run --auto-servernum \
	  --server-args='-screen 0 1280x800x24 -dpi 96' \
	  qgis --profiles-path $(PROFILES) --noversioncheck --nologo --code tests/tools/train_screenshots.py

TOWN := demo/town-7
damage-screenshots: demo | $(PLUGINS)/aftermap ## review the demo's damage in a QGIS without a display, and photograph it
	AFTERMAP_DAMAGE="$$PWD/demo/building_damage.gpkg" AFTERMAP_PICTURES="$(dir $(OUT))" xvfb-run --auto-servernum \
	  --server-args='-screen 0 1400x900x24 -dpi 96' \
	  qgis --profiles-path $(PROFILES) --noversioncheck --nologo --code tests/tools/damage_screenshots.py \
	  $(TOWN)/scenes/*/post.tif

USER_PLUGINS = $${XDG_DATA_HOME:-$$HOME/.local/share}/QGIS/QGIS3/profiles/$(PROFILE)/python/plugins
link: ## link this checkout into your own QGIS (PROFILE=name)
	@mkdir -p "$(USER_PLUGINS)"
	@ln -sfn "$$PWD" "$(USER_PLUGINS)/aftermap"
	@echo "Linked: $(USER_PLUGINS)/aftermap. Now switch Aftermap on in QGIS, Plugins → Manage and Install Plugins."

package: | system ## make the zip that QGIS's plugin manager installs, from what is committed
	@mkdir -p build
	@git diff --quiet HEAD || echo "Note: what is not committed is not in the zip."
	git archive --format=zip --prefix=aftermap/ --output=build/aftermap-$(VERSION).zip HEAD
	$(PYTHON) tests/tools/check_package.py build/aftermap-$(VERSION).zip

# ------------------------------------------------------------------------------------------- models

.PHONY: starter starter-buildings
starter: $(WORKER) ## train the starter model anew (DATA=folder with roads_dubai, roads_massachusetts, encoders)
	.venv/bin/aftermap train --task roads "$(DATA)/roads_dubai" "$(DATA)/roads_massachusetts" \
	  --from scratch --encoder-weights "$(DATA)/encoders/mobilenet_v2_imagenet.safetensors" \
	  --splits resources/models/roads.splits.json --synthetic-share 0.25 --gsd 1.0 --working-gsd 0.8 \
	  --steps 2600 --batch-size 8 --crop 384 --scale-jitter 2 --schedule cosine --no-prior-bias \
	  --licence "CC0 1.0" --licence "MassGIS public; OpenStreetMap ODbL" \
	  --out build/roads-mobilenetv2.aftermap

starter-buildings: $(WORKER) ## train the starter model for buildings anew (DATA=folder with roads_dubai)
	.venv/bin/aftermap train --task buildings "$(DATA)/roads_dubai" --from roads-mobilenetv2 \
	  --splits resources/models/buildings.splits.json --synthetic-share 0.3 --gsd 1.0 --working-gsd 0.6 \
	  --steps 800 --batch-size 8 --crop 320 --scale-jitter 1.5 --schedule cosine --learning-rate 8e-4 --licence "CC0 1.0" \
	  --out build/buildings-mobilenetv2.aftermap

.PHONY: models
models: | system ## pack the non-commercial models as files that Models… adds (build/models/)
	@mkdir -p build/models
	@for folder in resources/models-noncommercial/*/; do \
	  $(PYTHON) -c 'import sys, zipfile; from pathlib import Path; folder, licence, packed = map(Path, sys.argv[1:]); \
	    archive = zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED); \
	    [archive.write(path, path.name) for path in (*sorted(folder.iterdir()), licence)]; archive.close(); print(packed)' \
	    $$folder resources/models-noncommercial/LICENSE build/models/$$(basename $$folder).aftermap; \
	done

.PHONY: imbalance
imbalance: $(WORKER) ## repeat the class-imbalance experiment (DATA=folder as for starter, with splits.json)
	.venv/bin/python tests/tools/imbalance.py "$(DATA)"

# --------------------------------------------------------------------------------------------- rest

.PHONY: clean help
clean: ## remove the environments and everything that was built
	rm -rf .venv .venv-qgis build demo aftermap.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 20
