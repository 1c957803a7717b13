"""Faults that a learner, or a teacher, puts into a running lab on purpose, and takes out again."""

__all__ = ["catalogue", "keeper", "records"]
