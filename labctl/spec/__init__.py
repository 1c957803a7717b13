"""lab.yaml: read, filled with defaults, validated, with every problem at its line."""
