"""OpenStack on OVN on your own machine: one lab.yaml, one command, lessons you can replay."""

__version__ = "0.1.0"
