"""Lessons: their format, claims, progress, and a session with a learner."""

__all__ = [
    "course",
    "done",
    "evidence",
    "faults",
    "load",
    "model",
    "new",
    "progress",
    "proof",
    "prove",
    "questions",
    "results",
    "session",
    "transcript",
    "travel",
]
