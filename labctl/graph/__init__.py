"""The graph of a lab: its data, where it is read from, and its renderers."""

__all__ = ["mermaid", "model", "observed", "planned", "svg", "terminal"]
