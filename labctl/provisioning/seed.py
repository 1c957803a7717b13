"""The OpenStack objects that lessons expect: what the tutorial has its reader make on earlier days.

Tenant network and subnet, the router `r`, an image, a flavor, a keypair, a security group that
nothing uses yet, and the instances. Only what is missing is made, so this is safe to run again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.access.guest import Guest, GuestError
from labctl.engine.steps import Step, StepContext
from labctl.engine.wait import NotYet, wait_until
from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.images.download import download
from labctl.images.own_file import opened_for_caller
from labctl.lab import Lab
from labctl.provisioning.ovn_ready import wait_for_chassis
from labctl.provisioning.services import inactive_units
from labctl.state import write_atomic
from labctl.topology import Instance, TenantNetwork, Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

BUILTIN_IMAGE = "usr/share/labctl/instance.qcow2"
"""Where provision/15-instance-image.sh puts the built-in image on the controller."""


_PLUGGED = """for domain in $(virsh list --name); do
    missing=no
    for tap in $(virsh domiflist "$domain" | awk '$1 ~ /^tap/ { print $1 }'); do
        [ -e "/sys/class/net/$tap" ] &&
            [ "$(ovs-vsctl --timeout=5 --if-exists get interface "$tap" \
                external_ids:ovn-installed)" = '"true"' ] || missing=yes
    done
    [ "$missing" = yes ] || echo "$domain"
done"""


def _plugged(compute: Guest) -> set[str]:
    """The libvirt names of the instances that run, and whose interfaces OVN serves."""
    return set(compute.run(_PLUGGED, timeout=30).stdout.split())


def compute_ready(cloud: "Connection", topology: Topology) -> bool:
    """True when the scheduler can use every compute node. Raises NotYet naming missing nodes."""
    wanted = {node.name for node in topology.computes}
    known_to_nova = {hypervisor.name for hypervisor in cloud.compute.hypervisors()}
    alive = {
        service.host
        for service in cloud.compute.services(binary="nova-compute")
        if service.state == "up"
    }
    # The scheduler asks Placement, where a new node appears some seconds after its service is up.
    known_to_placement = {
        provider.name
        for provider in cloud.placement.resource_providers()
        if list(cloud.placement.resource_provider_inventories(provider))
    }
    if missing := sorted(wanted - (known_to_nova & alive & known_to_placement)):
        raise NotYet(tr("{names} not yet registered", names=tr_list(missing)))
    return True


def make_network(cloud: "Connection", topology: Topology) -> None:
    """Make the networks of instances, their subnets and the router between them and the outside."""
    made = [_network_and_subnet(cloud, topology, network) for network in topology.tenant_networks]
    router = cloud.network.find_router(topology.router)
    if router is None:
        router = cloud.network.create_router(name=topology.router)
    for network, subnet in made:
        _join(cloud, router, network, subnet)


def _network_and_subnet(
    cloud: "Connection", topology: Topology, wanted: TenantNetwork
) -> tuple[Any, Any]:
    network = cloud.network.find_network(wanted.name)
    if network is None:
        network = cloud.network.create_network(name=wanted.name)
    subnet = cloud.network.find_subnet(wanted.subnet, network_id=network.id)
    if subnet is None:
        subnet = cloud.network.create_subnet(
            name=wanted.subnet,
            network_id=network.id,
            ip_version=4,
            cidr=str(wanted.cidr),
            gateway_ip=str(wanted.gateway),
            dns_nameservers=[str(address) for address in topology.dns],
        )
    return network, subnet


def _join(cloud: "Connection", router: Any, network: Any, subnet: Any) -> None:
    """Give the router an interface in the network, if it has none."""
    interfaces = cloud.network.ports(
        device_id=router.id, device_owner="network:router_interface", network_id=network.id
    )
    if not list(interfaces):
        cloud.network.add_interface_to_router(router, subnet.id)


def make_access(cloud: "Connection", topology: Topology, controller: Guest) -> None:
    """Make the security group of the tutorial, and a keypair of the controller's own SSH key."""
    # Neutron makes the group "default" of a project when the project's groups are first listed.
    # List them now: made after the snapshot `base`, it would be made anew, with another ID, after
    # every reset.
    for owner in cloud.list_projects():
        list(cloud.network.security_groups(project_id=owner.id))
    name = topology.security_group
    project = cloud.current_project_id
    group = cloud.network.find_security_group(name, project_id=project)
    if group is None:
        group = cloud.network.create_security_group(
            name=name, description="ping and SSH from anywhere"
        )
    have = {
        (rule["direction"], rule["protocol"], rule["port_range_min"])
        for rule in group.security_group_rules or []
    }
    for protocol, port in (("icmp", None), ("tcp", 22)):
        if ("ingress", protocol, port) not in have:
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
    cloud: "Connection", name: str, source: Path, progress: Callable[[str], None]
) -> None:
    """Upload an image from a qcow2 or raw file on the host, unless Glance has one of that name."""
    image = cloud.image.find_image(name)
    if image is not None and image.status != "active":
        cloud.image.delete_image(image.id, ignore_missing=True)  # an upload that was interrupted
        image = None
    if image is None:
        with source.open("rb") as stream:
            is_qcow2 = stream.read(4) == b"QFI\xfb"  # the magic of docs/interop/qcow2 in QEMU
        size = source.stat().st_size
        progress(tr("uploading {size} MB", size=f"{size / 1e6:.0f}"))
        image = cloud.image.create_image(
            name,
            filename=str(source),
            disk_format="qcow2" if is_qcow2 else "raw",
            container_format="bare",
            visibility="public",
            hw_qemu_guest_agent="yes",  # Nova adds the port for it: see access/guestagent.py
            wait=True,
            timeout=600,
        )


def make_flavors(cloud: "Connection", topology: Topology) -> None:
    """Make the flavors that Nova lacks."""
    for flavor in topology.flavors:
        if cloud.compute.find_flavor(flavor.name) is None:
            cloud.compute.create_flavor(
                name=flavor.name, ram=flavor.memory, vcpus=flavor.vcpus, disk=flavor.disk
            )


def make_instance(
    cloud: "Connection",
    topology: Topology,
    instance: Instance,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool],
    timeout_factor: int = 1,
) -> None:
    """Make an instance and wait until it runs. Raises LabError when Nova cannot make it."""
    server: Any = cloud.compute.find_server(instance.name)
    if server is not None and server.status == "ERROR":
        progress(tr("removing a failed attempt"))
        cloud.compute.delete_server(server, force=True)
        cloud.compute.wait_for_delete(server, interval=1, wait=60)
        server = None
    if server is None:
        network = cloud.network.find_network(instance.network, ignore_missing=False)
        # ZONE:HOST: a user who may do it chooses the host (Nova's manual, "Availability Zones").
        where = {"availability_zone": f"nova:{instance.compute}"} if instance.compute else {}
        server = cloud.compute.create_server(
            name=instance.name,
            image_id=cloud.image.find_image(instance.image.name, ignore_missing=False).id,
            flavor_id=cloud.compute.find_flavor(instance.flavor.name, ignore_missing=False).id,
            key_name=topology.keypair,
            networks=[{"uuid": network.id, "fixed_ip": str(instance.address)}],
            **where,
        )

    def active() -> bool:
        current = cloud.compute.get_server(server.id)
        progress(f"{current.status} {current.task_state or ''}".strip())
        if current.status == "ERROR":
            fault = (current.fault or {}).get("message", tr("no reason given"))
            raise LabError(
                tr("Nova could not start {name}: {fault}", name=instance.name, fault=fault),
                hint=tr(
                    "read nova-compute's log: `labctl logs NODE nova-compute`, then create again"
                ),
            )
        if current.status == "SHUTOFF" and current.task_state is None:
            cloud.compute.start_server(server.id)
        if current.status != "ACTIVE":
            raise NotYet(
                tr("{status}, task {task}", status=current.status, task=current.task_state)
            )
        return True

    wait_until(
        tr("{name} is ACTIVE", name=instance.name),
        active,
        deadline=300 * timeout_factor,
        hint=tr("`labctl ssh` to the controller and run `openstack server show` on it"),
        interval=0.7,
        cancelled=cancelled,
    )


def remove_instance(cloud: "Connection", name: str) -> None:
    """Delete the instance of that name, if there is one, and wait until it is gone."""
    server: Any = cloud.compute.find_server(name)
    if server is not None:
        cloud.compute.delete_server(server, force=True)
        cloud.compute.wait_for_delete(server, interval=1, wait=60)


_RUNNING = 1
"""Nova's power state of an instance that runs (nova.compute.power_state)."""


class Seed:
    """The steps of `create` after provision/, and those of `up` after the boot."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def steps(self) -> list[Step]:
        """The steps that make the objects: network, access, image and flavor, instances.

        A lab without OpenStack has none of them. Its only step waits until OVN works.
        """
        topology = self._lab.topology
        controller = topology.controller.name
        if topology.stack == "ovn":
            return [self._chassis_step(tuple(f"ovn-host:{node.name}" for node in topology.nodes))]

        def on_controller(*scripts: str) -> tuple[str, ...]:
            return tuple(f"{script}:{controller}" for script in scripts)

        compute = tuple(f"nova-compute:{node.name}" for node in topology.computes)
        metadata = tuple(f"ovn-metadata:{node.name}" for node in topology.computes)
        chassis = tuple(f"ovn-host:{node.name}" for node in topology.nodes)
        steps = [
            Step(
                "tenant",
                tr("tenant network and router"),
                lambda context: make_network(self._lab.cloud(), topology),
                on_controller("keystone", "neutron"),
                node=controller,
            ),
            Step(
                "access",
                tr("security group and keypair"),
                lambda context: make_access(self._lab.cloud(), topology, self._lab.controller),
                on_controller("keystone", "neutron", "nova", "shell"),
                node=controller,
            ),
            Step(
                "image-upload",
                tr("image and flavor"),
                self._upload,
                on_controller("keystone", "glance", "nova", "instance-image"),
                node=controller,
            ),
            Step(
                "computes",
                tr("compute nodes registered"),
                self._computes,
                on_controller("keystone", "nova", "placement") + compute,
                node=controller,
            ),
        ]
        needs = tuple(step.id for step in steps) + metadata + chassis
        return steps + [
            Step(
                f"instance:{instance.name}",
                tr("instance {name}", name=instance.name),
                self._instance(instance),
                needs,
                node=controller,
            )
            for instance in topology.instances
        ]

    def ready_steps(self) -> list[Step]:
        """Steps of `up`: wait until the services are active and the instances run again."""
        boots = tuple(f"boot:{node.name}" for node in self._lab.topology.nodes)
        controller = self._lab.topology.controller.name
        services = Step("services", tr("services are back"), self._services, boots, node=controller)
        if self._lab.topology.stack == "ovn":
            return [services, self._chassis_step(("services",))]
        return [
            services,
            Step(
                "computes",
                tr("computes are back"),
                self._computes,
                ("services",),
                node=controller,
            ),
            Step(
                "instances",
                tr("instances are back"),
                self._instances_back,
                ("computes",),
                node=controller,
            ),
        ]

    def _chassis_step(self, needs: tuple[str, ...]) -> Step:
        lab = self._lab
        return Step(
            "chassis",
            tr("chassis registered"),
            lambda context: wait_for_chassis(
                lab.topology, lab.controller, lab.cloud, context.cancelled
            ),
            needs,
            node=lab.topology.controller.name,
        )

    def _upload(self, context: StepContext) -> None:
        topology = self._lab.topology
        fields = ["image", *(f"images.{key}" for key in topology.spec.images)]
        for image, field in zip(topology.images, fields, strict=True):
            with self.image_source(context, image.source, f"{field}.source") as source:
                make_image(self._lab.cloud(), image.name, source, context.progress)
        make_flavors(self._lab.cloud(), topology)

    @contextmanager
    def image_source(self, context: StepContext, source: str, field: str) -> Iterator[Path]:
        """The file to upload: out of the baked image, beside lab.yaml, or downloaded once.

        `source` is what lab.yaml says, `field` the key that says it.
        """
        if source == "builtin":
            yield self._lab.provider.image_file(BUILTIN_IMAGE) or self._from_controller(context)
        elif source.startswith(("http://", "https://")):
            yield download(
                source, self._lab.cache / "downloads", context.progress, context.cancelled,
                field=field,
            )  # fmt: skip
        else:
            path = self._lab.file.parent / source
            with opened_for_caller(path, self._lab.file.name) as opened:
                yield opened

    def _from_controller(self, context: StepContext) -> Path:
        """The built-in image, read over SSH: a virtual machine's disk cannot be read from here."""
        controller = self._lab.topology.controller.name
        context.progress(tr("fetching it from {node}", node=controller))
        content = self._lab.controller.get(f"/{BUILTIN_IMAGE}")
        path = self._lab.cache / "downloads" / f"instance-{sha256(content).hexdigest()[:16]}.qcow2"
        if not path.exists():
            write_atomic(path, content)
        return path

    def _services(self, context: StepContext) -> None:
        """Wait until every unit is active.

        nova-compute becomes active only after it has started the instances that ran before.
        """

        def active() -> bool:
            topology = self._lab.topology
            for node in topology.nodes:
                guest = self._lab.provider.guest(node)
                if missing := inactive_units(guest, node, topology.stack):
                    shown = tr_list(f"{unit} {state}" for unit, state in missing.items())
                    context.progress(f"{node.name}: {shown}")
                    raise NotYet(f"{node.name}: {shown}")
            return True

        wait_until(
            tr("every service is active"),
            active,
            deadline=240 * self._lab.provider.timeout_factor,
            hint=tr("`labctl status` names what is missing, `labctl logs NODE SERVICE` says why"),
            transient=(GuestError,),
            interval=0.7,
            cancelled=context.cancelled,
        )

    def _computes(self, context: StepContext) -> None:
        from labctl.access.cloud import API_ERRORS

        wait_until(
            tr("every compute node is registered"),
            lambda: compute_ready(self._lab.cloud(), self._lab.topology),
            deadline=240 * self._lab.provider.timeout_factor,
            hint=tr("`labctl logs NODE {service}` tells what it waits for", service="nova-compute"),
            transient=API_ERRORS,
            interval=0.7,
            cancelled=context.cancelled,
        )

    def _instance(self, instance: Instance) -> Callable[[StepContext], None]:
        return lambda context: make_instance(
            self._lab.cloud(),
            self._lab.topology,
            instance,
            context.progress,
            context.cancelled,
            self._lab.provider.timeout_factor,
        )

    def _instances_back(self, context: StepContext) -> None:
        from labctl.access.cloud import API_ERRORS

        def back() -> bool:
            servers = [
                server
                for server in self._lab.cloud().compute.servers(all_projects=True)
                if server.status == "ACTIVE"
            ]
            waiting = [server.name for server in servers if server.power_state != _RUNNING]
            # Nova may still say what was true before the halt: see what the nodes have.
            plugged = {
                node.name: _plugged(self._lab.provider.guest(node))
                for node in self._lab.topology.computes
                if any(server.compute_host == node.name for server in servers)
            }
            waiting += [
                server.name
                for server in servers
                if server.instance_name not in plugged.get(server.compute_host, ())
            ]
            if waiting:
                raise NotYet(tr_list(dict.fromkeys(waiting)))
            return True

        wait_until(
            tr("the instances run again"),
            back,
            deadline=180 * self._lab.provider.timeout_factor,
            hint=tr("`labctl logs NODE nova-compute`; `openstack server start` starts one by hand"),
            transient=(GuestError, *API_ERRORS),
            interval=0.7,
            cancelled=context.cancelled,
        )
