"""The engine incus: a class on an Incus server or cluster, by its REST API."""

__all__: list[str] = []
