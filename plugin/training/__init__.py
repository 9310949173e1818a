"""The dialog in which a model is trained: data, workbench, run, result."""
