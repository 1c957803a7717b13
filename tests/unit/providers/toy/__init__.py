"""A provider whose nodes are made of nothing: what one folder has to say, and no more.

Under test it lies beside the real ones: `labctl.providers.toy`.
"""

NAME = "toy"
