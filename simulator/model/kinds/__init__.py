"""Kinds of resources: one file each, found by its being here."""
