"""`labctl report`: the lab, its lessons and its packet walks as one page that needs no network."""

__all__ = ["collect", "page"]
