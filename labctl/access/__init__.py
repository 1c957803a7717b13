"""Ways into a lab: SSH, an instance's console, OpenStack's APIs, captured packets."""

__all__ = [
    "capture",
    "cloud",
    "flows",
    "guest",
    "instance",
    "keys",
    "ovsdb",
    "packets",
    "shell",
    "ssh",
]
