"""What people see: styled lines, in a pipe or on a terminal."""
