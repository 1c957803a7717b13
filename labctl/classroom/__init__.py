"""A class: one machine for each learner, on an engine that exists (`labctl class`).

class.yaml says what is wanted (`model`, `load`); an engine makes machines (`engine` is the
protocol, `registry` finds one); `work` creates, resets and destroys; `cards` are for learners;
`grades` asks their labs, over `remote`, and `sheets` writes what they said.
"""

__all__ = [
    "cards", "ends", "engine", "grades", "keys", "load", "registry", "remote", "sheets", "status",
    "work",
]  # fmt: skip
