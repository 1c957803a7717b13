"""The files that nodes and instances boot from: baked images, Vagrant boxes, downloads."""

__all__ = ["baked", "box", "box_format", "download", "own_file"]
