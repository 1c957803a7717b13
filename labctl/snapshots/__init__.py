"""Snapshots of a whole lab: saved, listed, restored live or offline, recovered after a kill."""

__all__ = ["health", "recover", "renewal", "restore", "save", "store"]
