"""From booted nodes to the state that the lessons start from."""

__all__ = ["boot", "ovn_ready", "seed", "services", "stages"]
