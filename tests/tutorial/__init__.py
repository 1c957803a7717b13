"""OVN's OpenStack tutorial, followed in a lab of labctl's; docs/tests-of-others.md."""
