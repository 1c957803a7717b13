"""A class: one machine for each learner, on an engine that exists (`labctl class`).

class.yaml says what is wanted (`model`, `load`); an engine makes machines (`engine` is the
protocol, `registry` finds one); `work` creates, resets and destroys; `cards` are for learners;
`join` shares a learner's terminal;
`grades` asks their labs, over `remote`, and `sheets` writes what they said;
`table` is the status for people, and `page` the teacher's page of it.
"""

__all__ = [
    "cards", "ends", "grades", "join", "keys", "load", "page", "registry", "remote", "sheets",
    "status", "table", "work",
]  # fmt: skip
