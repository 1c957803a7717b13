"""lab.yaml: reads it, fills in defaults, validates it, and reports every problem with its line."""

__all__ = [
    "changes",
    "defaults",
    "fields",
    "forms",
    "load",
    "model",
    "more_networks",
    "problems",
    "source",
]
