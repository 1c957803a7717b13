"""What differs between the operating systems that labctl runs on: Linux, macOS and Windows.

Every other room asks here, and behaves the same everywhere. On Windows labctl works only with
virtual machines: containers, and all that needs root, are Linux's.
"""

__all__ = [
    "architecture", "closing", "files", "language", "locks", "memory", "processes", "programs",
    "rights",
]  # fmt: skip
