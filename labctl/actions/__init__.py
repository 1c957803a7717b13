"""What can be done to a lab; a file for each verb, or for a few that belong together."""

__all__ = [
    "box",
    "create",
    "destroy",
    "instance_login",
    "lessons",
    "logs",
    "power",
    "render",
    "snapshots",
    "status",
    "walk",
]
