"""tests/tutorial, without a lab."""
