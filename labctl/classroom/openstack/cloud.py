"""A class in an OpenStack cloud: the verbs of `engine.Engine`, by openstacksdk.

A token that expires is renewed by the SDK. A learner costs three calls to create (server, port,
floating IP) and two to remove; everything else is asked for the class as a whole.
"""

import base64
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import openstack
from keystoneauth1.exceptions import ClientException
from openstack.exceptions import NotFoundException, SDKException

from labctl.classroom.engine import Machine, State
from labctl.classroom.first_boot import first_boot
from labctl.classroom.keys import other_teacher
from labctl.classroom.labels import (
    CLASS,
    ENDS,
    belongs,
    description,
    end_in,
    end_text,
    learner_in,
    learner_of,
    metadata,
    resource_name,
)
from labctl.classroom.model import ClassSpec
from labctl.classroom.openstack import quotas
from labctl.classroom.openstack.retries import failure, retried
from labctl.classroom.openstack.shared import SharedParts
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

_STATES: dict[str, State] = {"ACTIVE": "running", "BUILD": "building", "ERROR": "failed"}
"""Nova's status -> ours; of any other the machine is there and does not run."""
_IMAGE_FORMATS = {".qcow2": "qcow2", ".img": "qcow2", ".raw": "raw"}
_LOG_LINES = 200
_TIMEOUT = 60
"""Seconds for one call."""


def connect(cloud: str | None) -> Any:
    """A connection to a cloud of clouds.yaml, or of the variables OS_…. Raises LabError."""
    try:
        connection = openstack.connect(
            cloud=cloud, timing=True, api_timeout=_TIMEOUT, app_name="labctl"
        )
        connection.session.get_token()
    except (SDKException, ClientException, OSError) as error:
        raise LabError(
            tr("the cloud cannot be used: {error}", error=str(error).strip()),
            hint=tr("try it with the command {command}; docs/class.md tells where the cloud is"
                    " looked for", command="openstack token issue"),
            code=EXIT_USAGE,
        ) from error  # fmt: skip
    return connection


class OpenStackEngine:
    """The machines of one class in one project of a cloud."""

    def __init__(self, spec: ClassSpec, directory: Path, connection: Any) -> None:
        """`directory` is where class.yaml is: paths of image files are relative to it."""
        self._spec = spec
        self._directory = directory
        self._connection = connection
        self._compute = connection.compute
        self._shared = SharedParts(spec, connection)
        self._image_id = ""
        self._flavor_id = ""
        self._key_name = resource_name(spec.name)
        self._floating: dict[str, list[Any]] = {}

    @property
    def calls(self) -> int:
        """Requests to the cloud's APIs."""
        return len(self._connection.session.get_timings())

    # -- before machines ---------------------------------------------------------------------------
    def require_room(self, machines: int) -> None:
        """Compare what so many machines need with every quota; choose the flavor."""
        flavor = self._flavor()
        needed = defaultdict(int, self._shared.needed())
        needed["instances"] = machines
        needed["cores"] = machines * flavor.vcpus
        needed["ram"] = machines * flavor.ram
        needed["ports"] += machines
        if self._spec.openstack.access == "floating":
            having = {learner for learner, ips in self._floating.items() if ips}
            needed["floating_ips"] = max(0, len(set(self._spec.learners) - having))
        quotas.require(retried(lambda: quotas.read(self._connection)), needed, machines)

    def _flavor(self) -> Any:
        flavors = retried(lambda: list(self._compute.flavors()))
        wanted, size = self._spec.openstack.flavor, self._spec.size
        if wanted:
            fitting = [flavor for flavor in flavors if wanted in (flavor.name, flavor.id)]
            missing = tr("the cloud has no flavor {name}", name=repr(wanted))
        else:
            fitting = [
                flavor
                for flavor in flavors
                if flavor.vcpus >= size.cpus
                and flavor.ram >= size.memory
                and flavor.disk >= size.disk
            ]
            missing = tr(
                "the cloud has no flavor with {cpus} CPUs, {memory} MiB and {disk} GiB or more",
                cpus=size.cpus, memory=size.memory, disk=size.disk,
            )  # fmt: skip
        if not fitting:
            raise LabError(missing, hint=tr("look with {command}", command="openstack flavor list"),
                           code=EXIT_USAGE)  # fmt: skip
        flavor = min(fitting, key=lambda flavor: (flavor.ram, flavor.vcpus, flavor.disk))
        self._flavor_id = flavor.id
        return flavor

    def image(self) -> None:
        """Find the image, or upload the file; a killed upload is begun again."""
        wanted = self._spec.openstack.image
        kind = _IMAGE_FORMATS.get(Path(wanted).suffix)
        if kind is None:
            found = retried(lambda: self._connection.image.find_image(wanted, ignore_missing=True))
            if found is None:
                raise LabError(
                    tr("the cloud has no image {name}", name=repr(wanted)),
                    hint=tr("look with {command}", command="openstack image list"),
                    code=EXIT_USAGE,
                )
            self._image_id = found.id
            return
        file = self._directory / wanted
        if not file.is_file():
            raise LabError(tr("there is no file {path}", path=file), code=EXIT_USAGE)
        for image in self._images():
            if image.status == "active":
                self._image_id = image.id
                return
            self._delete_image(image)
        uploaded = retried(
            lambda: self._connection.image.create_image(
                resource_name(self._spec.name), filename=str(file), disk_format=kind,
                container_format="bare", validate_checksum=False, wait=True,
                timeout=60 * self._spec.minutes, **{CLASS: self._spec.name},
            )
        )  # fmt: skip
        self._image_id = uploaded.id

    def _images(self) -> list[Any]:
        project = self._connection.current_project_id
        images = retried(lambda: list(self._connection.image.images(owner=project)))
        return [image for image in images if image.properties.get(CLASS) == self._spec.name]

    def _delete_image(self, image: Any) -> None:
        retried(lambda: self._connection.image.delete_image(image.id))

    def prepare(self, public_key: str) -> None:
        """Network, router, security group, and a keypair with the teacher's key."""
        self._shared.prepare()
        key = " ".join(public_key.split()[:2])
        there = retried(lambda: self._compute.find_keypair(self._key_name, ignore_missing=True))
        if there is None:
            line = f"{key} {description(self._spec.name)}"
            retried(
                lambda: self._compute.create_keypair(name=self._key_name, public_key=line),
                lambda: self._compute.find_keypair(self._key_name, ignore_missing=True),
            )
        elif there.public_key.split()[:2] != key.split():
            raise other_teacher()

    # -- machines ----------------------------------------------------------------------------------
    def machines(self) -> list[Machine]:
        """One call for the servers, and one for the floating IPs."""
        if self._spec.openstack.access == "floating":
            self._floating = self._floating_ips()
        servers = retried(lambda: list(self._compute.servers(details=True)))
        found = []
        for server in servers:
            learner = learner_in(server.metadata, self._spec.name)
            if learner is not None and server.status not in ("DELETED", "SOFT_DELETED"):
                found.append(self._machine(server, learner))
        return found

    def _machine(self, server: Any, learner: str) -> Machine:
        addresses = [
            address for network in (server.addresses or {}).values() for address in network
        ]
        if self._spec.openstack.access == "floating":
            fixed = {address["addr"] for address in addresses}
            address = next(
                (
                    ip.floating_ip_address
                    for ip in self._floating.get(learner, [])
                    if ip.fixed_ip_address in fixed
                ),
                "",
            )
        else:
            address = next((item["addr"] for item in addresses if item["version"] == 4), "")
        fault = server.fault or {}
        return Machine(
            id=server.id,
            learner=learner,
            state=_STATES.get(server.status, "stopped"),
            address=address,
            reason=str(fault.get("message", "")),
            ends=end_in(server.metadata.get(ENDS)),
        )

    def _floating_ips(self) -> dict[str, list[Any]]:
        """{learner: the floating IPs that carry the label}."""
        found: dict[str, list[Any]] = defaultdict(list)
        project = self._connection.current_project_id
        for ip in retried(lambda: list(self._connection.network.ips(project_id=project))):
            if belongs(ip.description, self._spec.name):
                found[learner_of(ip.description)].append(ip)
        return found

    def launch(self, learner: str, authorized: str, ends: datetime | None) -> None:
        """One call: Nova makes the port on the network itself."""

        def find() -> Any:
            return next(
                (machine for machine in self.machines() if machine.learner == learner), None
            )

        cloud = self._spec.openstack
        script = first_boot(self._spec.user, learner, [authorized])
        zone = {"availability_zone": cloud.availability_zone} if cloud.availability_zone else {}
        retried(
            lambda: self._compute.create_server(
                name=resource_name(self._spec.name, learner),
                metadata=metadata(self._spec.name, learner, ends),
                image_id=self._image_id,
                flavor_id=self._flavor_id,
                networks=[{"uuid": self._shared.network_id}],
                security_groups=[{"name": self._shared.group_id}],
                key_name=self._key_name,
                user_data=base64.b64encode(script.encode()).decode(),
                **zone,
            ),
            find,
        )

    def extend(self, machine: Machine, ends: datetime) -> None:
        """One call."""
        label = {ENDS: end_text(ends)}
        retried(lambda: self._compute.set_server_metadata(machine.id, **label))

    def address(self, machine: Machine) -> str:
        """The learner's floating IP moves to the machine; else there is a new one."""
        if machine.address or self._spec.openstack.access == "fixed":
            return machine.address
        network = self._connection.network
        port = next(iter(retried(lambda: list(network.ports(device_id=machine.id)))), None)
        if port is None:
            raise LabError(tr("{name} has no port", name=machine.learner))
        label = description(self._spec.name, machine.learner)

        def find() -> Any:
            return next(iter(self._floating_ips().get(machine.learner, [])), None)

        spare = next(iter(self._floating.get(machine.learner, [])), None)
        ip = spare or retried(
            lambda: network.create_ip(
                floating_network_id=self._shared.external_id, port_id=port.id, description=label
            ),
            find,
        )
        if ip.port_id != port.id:
            retried(lambda: network.update_ip(ip.id, port_id=port.id))
        return str(ip.floating_ip_address)

    def console_log(self, machine: Machine) -> str:
        """The last 200 lines."""
        answer = retried(
            lambda: self._compute.get_server_console_output(machine.id, length=_LOG_LINES)
        )
        return str(answer["output"] if isinstance(answer, dict) else answer)

    def delete(self, machine: Machine) -> None:
        """One call; Nova removes the port, too."""
        retried(lambda: self._compute.delete_server(machine.id, ignore_missing=True))

    def clear(self) -> int:
        """Floating IPs, router, network, security group, image and keypair."""
        network = self._connection.network
        ips = [ip.id for of_learner in self._floating_ips().values() for ip in of_learner]
        with ThreadPoolExecutor(self._spec.parallel) as pool:
            list(pool.map(lambda id: retried(partial(network.delete_ip, id)), ips))
        removed = len(ips)
        removed += self._shared.clear()
        for image in self._images():
            self._delete_image(image)
            removed += 1
        return removed + self._delete_keypair()

    def _delete_keypair(self) -> int:
        try:
            there = self._compute.find_keypair(self._key_name, ignore_missing=True)
            comment = there.public_key.split(maxsplit=2)[2:] if there is not None else []
            if not comment or not belongs(comment[0].strip(), self._spec.name):
                return 0
            self._compute.delete_keypair(there)
        except NotFoundException:
            return 0
        except SDKException as error:
            raise failure(error) from error
        return 1
