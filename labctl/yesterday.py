"""What the learner made on the days before: the state in which the tutorial's day begins.

Tenant network and subnet, the router `r`, an image, a flavor, a keypair, a security group that
nothing uses yet, and the instances. Every object is looked up first, so this may run again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import HttpException, SDKException

from labctl.errors import LabError
from labctl.guest import Guest
from labctl.i18n import tr
from labctl.topology import Instance, Topology
from labctl.waiting import NotYet, wait_until

BUILTIN_IMAGE = "usr/share/labctl/instance.qcow2"


def compute_ready(cloud: Connection, topology: Topology) -> bool:
    """Whether the scheduler can use every compute node. Raises NotYet naming who is missing."""
    wanted = {node.name for node in topology.computes}
    mapped = {hypervisor.name for hypervisor in cloud.compute.hypervisors()}
    alive = {
        service.host
        for service in cloud.compute.services(binary="nova-compute")
        if service.state == "up"
    }
    # The scheduler asks Placement, where a new node appears a few seconds after its service.
    placeable = {
        provider.name
        for provider in cloud.placement.resource_providers()
        if list(cloud.placement.resource_provider_inventories(provider))
    }
    if missing := sorted(wanted - (mapped & alive & placeable)):
        raise NotYet(f"{', '.join(missing)} not yet registered")
    return True


def make_network(cloud: Connection, topology: Topology) -> None:
    """Tenant network, subnet, router and its interface."""
    network = cloud.network.find_network(topology.tenant_network)
    if network is None:
        network = cloud.network.create_network(name=topology.tenant_network)
    subnet = cloud.network.find_subnet(topology.tenant_subnet, network_id=network.id)
    if subnet is None:
        subnet = cloud.network.create_subnet(
            name=topology.tenant_subnet,
            network_id=network.id,
            ip_version=4,
            cidr=str(topology.tenant_cidr),
            gateway_ip=str(topology.tenant_gateway),
            dns_nameservers=[str(address) for address in topology.dns],
        )
    router = cloud.network.find_router(topology.router)
    if router is None:
        router = cloud.network.create_router(name=topology.router)
    interfaces = cloud.network.ports(
        device_id=router.id, device_owner="network:router_interface", network_id=network.id
    )
    if not list(interfaces):
        cloud.network.add_interface_to_router(router, subnet_id=subnet.id)


def make_access(cloud: Connection, topology: Topology, controller: Guest) -> None:
    """The security group of the tutorial, and the keypair of the controller's own SSH key."""
    name = topology.security_group
    project = cloud.current_project_id
    group = cloud.network.find_security_group(name, project_id=project)
    if group is None:
        group = cloud.network.create_security_group(
            name=name, description="ping and SSH from anywhere"
        )
    have = {(rule["protocol"], rule["direction"]) for rule in group.security_group_rules or []}
    for protocol, port in (("icmp", None), ("tcp", 22)):
        if (protocol, "ingress") not in have:
            cloud.network.create_security_group_rule(
                security_group_id=group.id,
                direction="ingress",
                ethertype="IPv4",
                protocol=protocol,
                port_range_min=port,
                port_range_max=port,
            )
    if cloud.compute.find_keypair(topology.keypair) is None:
        public = controller.get("/root/.ssh/id_ed25519.pub").decode().strip()
        cloud.compute.create_keypair(name=topology.keypair, public_key=public)


def make_image(
    cloud: Connection, topology: Topology, source: Path, progress: Callable[[str], None]
) -> None:
    """The image, uploaded from a qcow2 or raw file on the host, and the flavor."""
    name = topology.image.name
    image = cloud.image.find_image(name)
    if image is not None and image.status != "active":
        cloud.image.delete_image(image, ignore_missing=True)  # an upload that was interrupted
        image = None
    if image is None:
        with source.open("rb") as stream:
            qcow2 = stream.read(4) == b"QFI\xfb"
        size = source.stat().st_size
        progress(tr("uploading {size} MB", size=f"{size / 1e6:.0f}"))
        image = cloud.image.create_image(
            name,
            filename=str(source),
            disk_format="qcow2" if qcow2 else "raw",
            container_format="bare",
            visibility="public",
            wait=True,
            timeout=600,
        )
    flavor = topology.flavor
    if cloud.compute.find_flavor(flavor.name) is None:
        cloud.compute.create_flavor(
            name=flavor.name, ram=flavor.memory_mib, vcpus=flavor.vcpus, disk=flavor.disk_gib
        )


def make_instance(
    cloud: Connection,
    topology: Topology,
    instance: Instance,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> None:
    """One running instance at its fixed address. Raises LabError when Nova cannot make it."""
    server: Any = cloud.compute.find_server(instance.name)
    if server is not None and server.status == "ERROR":
        progress(tr("removing a failed attempt"))
        cloud.compute.delete_server(server, force=True)
        cloud.compute.wait_for_delete(server, interval=1, wait=60)
        server = None
    if server is None:
        network = cloud.network.find_network(topology.tenant_network, ignore_missing=False)
        server = cloud.compute.create_server(
            name=instance.name,
            image_id=cloud.image.find_image(topology.image.name, ignore_missing=False).id,
            flavor_id=cloud.compute.find_flavor(topology.flavor.name, ignore_missing=False).id,
            key_name=topology.keypair,
            networks=[{"uuid": network.id, "fixed_ip": str(instance.address)}],
        )

    def active() -> bool:
        now = cloud.compute.get_server(server.id)
        progress(f"{now.status} {now.task_state or ''}".strip())
        if now.status == "ERROR":
            fault = (now.fault or {}).get("message", "no reason given")
            raise LabError(
                f"Nova could not start {instance.name}: {fault}",
                hint="read nova-compute's log: `labctl logs NODE nova-compute`, then create again",
            )
        if now.status == "SHUTOFF" and now.task_state is None:
            cloud.compute.start_server(server.id)
        if now.status != "ACTIVE":
            raise NotYet(f"{now.status}, task {now.task_state}")
        return True

    wait_until(
        tr("{name} is ACTIVE", name=instance.name),
        active,
        deadline=300,
        hint="`labctl ssh` to the controller and run `openstack server show` on it",
        interval=0.7,
        cancelled=cancelled,
    )


API_ERRORS = (SDKException, HttpException, OSError)
"""What a call may raise while a service is still starting."""
