"""Lessons: their format, claims, progress, and a session with a learner."""
