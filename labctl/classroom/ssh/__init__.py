"""The engine ssh: a class on machines that are there already, listed in class.yaml."""

__all__: list[str] = []
