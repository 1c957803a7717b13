"""What can be done to a lab, a file a verb."""

__all__ = ["create", "destroy", "lessons", "logs", "power", "render", "snapshots", "status", "walk"]
