"""Snapshots of a whole lab: saved, listed, restored live or offline, recovered after a kill."""

__all__ = ["recover", "restore", "save", "store"]
