"""`labctl open`: the lab on one page of a browser, served on this machine."""

__all__ = ["events", "feed", "serve", "tls"]
