"""From booted nodes to a lab in which the tutorial's day begins."""

__all__ = ["boot", "ovn_ready", "seed", "services"]
