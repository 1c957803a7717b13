"""What can be done to a lab; a file for each verb, or for a few that belong together."""

__all__ = [
    "apply", "box", "capture", "class_image", "course", "create", "destroy", "faults", "fork",
    "instance_login", "lessons", "logs", "power", "progress", "prove", "render", "renew", "served",
    "snapshots", "status", "walk",
]  # fmt: skip
