"""This machine: what it is, what may be wrong with it, and what a provider asks of it."""
