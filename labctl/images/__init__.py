"""The files that nodes and instances boot from: baked images, Vagrant boxes, downloads."""

__all__ = [
    "add_box",
    "baked",
    "box",
    "box_file",
    "box_format",
    "cloud",
    "cloud_box",
    "download",
    "machine",
    "own_file",
    "templates",
]
