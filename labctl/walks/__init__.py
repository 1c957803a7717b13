"""Sends one packet, captures it at every interface and follows it hop by hop."""

__all__ = ["describe", "explain", "model", "ovntrace", "show", "walk", "walker"]
