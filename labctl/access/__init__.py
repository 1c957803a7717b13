"""Ways into a lab: SSH, an instance's console, OpenStack's APIs, captured packets."""
