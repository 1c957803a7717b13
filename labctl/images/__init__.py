"""The files that nodes and instances boot from: baked images, Vagrant boxes, downloads."""
