"""Read-only questions to the lab: a name and a few arguments in, rows out.

A probe never changes anything, and takes another route than the command whose effect it checks:
openstacksdk, OVN's databases, captured packets. Each module lists its own in `PROBES`; lessons
name them.
"""

from labctl.probes.context import ProbeContext, ReadCache

__all__ = [
    "ProbeContext", "ReadCache", "counters", "failover", "in_instance", "openstack", "ovn",
    "ovn_services", "run", "signatures", "wire",
]  # fmt: skip
