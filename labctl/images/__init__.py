"""The files nodes and instances boot from: baked images, boxes, downloads."""
