"""Calibration: models held against measurements."""
