"""From booted nodes to a lab in which the tutorial's day begins."""
