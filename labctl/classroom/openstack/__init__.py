"""The engine openstack: a class on any cloud of clouds.yaml, through openstacksdk."""

__all__: list[str] = []
