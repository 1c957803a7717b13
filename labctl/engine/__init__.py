"""The engine: steps with needs, the events they emit, waiting with a deadline."""

__all__ = ["events", "lock", "steps", "timings", "wait"]
