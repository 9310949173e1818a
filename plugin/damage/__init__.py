"""Building damage in QGIS: how it looks, what it counts, how an analyst reviews and exports it."""
