"""What people see: styled lines, in a pipe or on a terminal."""

__all__ = ["console", "fit", "text"]
