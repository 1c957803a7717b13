"""This machine: facts about it, checks of them, and what a provider needs to know."""
