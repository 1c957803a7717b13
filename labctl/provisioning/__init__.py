"""From booted nodes to the state that the lessons start from."""

__all__ = ["boot", "node_health", "ovn_ready", "seed", "services", "stages"]
