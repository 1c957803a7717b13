"""Whether this host can make the lab, by which provider, and what to fix."""

__all__ = ["examine", "judge", "show"]
