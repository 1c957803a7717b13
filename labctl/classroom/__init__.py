"""A class: one machine for each learner, on an engine that exists (`labctl class`).

class.yaml says what is wanted (`model`, `load`); an engine makes machines (`engine` is the
protocol, `registry` finds one); `work` creates, resets and destroys; `cards` are for learners.
"""

__all__ = ["cards", "engine", "load", "registry", "status", "work"]
