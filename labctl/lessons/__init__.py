"""Lessons: their format, claims, progress, and a session with a learner."""

__all__ = ["evidence", "load", "model", "new", "progress", "results", "session", "transcript"]
