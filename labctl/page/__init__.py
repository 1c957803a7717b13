"""`labctl open`: the lab on one page of a browser, served on this machine alone."""

__all__ = ["serve"]
