"""Engines: each interprets a Program and returns Records."""
