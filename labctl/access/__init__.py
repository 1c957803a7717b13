"""Ways into a lab: SSH, an instance's console, OpenStack's APIs, captured packets."""

__all__ = [
    "capture", "cloud", "flows", "guest", "instance", "keys", "live_capture", "neighbors", "ovsdb",
    "ovsdb_edit", "packet_lines", "packets", "paramiko_alone", "pcapng", "shell", "ssh",
]  # fmt: skip
