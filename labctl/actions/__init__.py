"""What can be done to a lab, a file a verb."""
