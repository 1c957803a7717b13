"""OVN's own multinode tests (`make check-multinode` of its source), run in a lab of labctl's."""

from labctl.assets import assets

ASSETS = assets()
"""Where provision/ is."""
