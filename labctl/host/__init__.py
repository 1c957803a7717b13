"""This machine: facts about it, checks of them, and what a provider needs to know."""

__all__ = ["checks", "facts", "files", "findings", "questions"]
