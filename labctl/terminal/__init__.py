"""What people see: pages of lines, on a pipe and on a terminal."""
