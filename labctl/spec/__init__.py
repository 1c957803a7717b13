"""lab.yaml: reads it, fills in defaults, validates it, and reports every problem with its line."""

__all__ = [
    "attribute_docs",
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
