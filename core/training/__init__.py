"""Losses, schedules, the training loop, calibration and figures."""
