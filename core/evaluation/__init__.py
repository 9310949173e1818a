"""Pixel and object scores, and their reports."""
