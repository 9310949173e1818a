"""Folders of labelled tiles: index, class shares, splits, samplers, augmentation, generated scenes."""
