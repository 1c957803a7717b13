"""class.yaml as frozen models. Editors show the descriptions here while one types."""

import re
from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.spec.fields import (
    LAB_NAME,
    Address,
    Count,
    GiB,
    MiB,
    OpenStackName,
    Subnet,
    UserName,
    ZoneName,
    invalid_value,
)
from labctl.spec.problems import quoted

MOST_LEARNERS = 1000
_HOST = "^([A-Za-z0-9:][A-Za-z0-9.:-]{0,252})?$"
"""A name, an IPv4 or an IPv6 address, or nothing; never what OpenSSH takes for an option."""
_PATH = r"^(?!-)[^\x00-\x1f\x7f]*$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]+ ?([+-][0-9]{2}:?[0-9]{2}|Z)$"
_LESSON = "^[a-z0-9][a-z0-9-]{0,62}$"
_LEARNER = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
_INCUS_NAME = "^[A-Za-z0-9@][A-Za-z0-9@_.:/+-]{0,127}$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """A key with nothing after it means its default."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


def _class_name(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(LAB_NAME, value):
        raise invalid_value(
            tr("{value} is not the name of a class", value=quoted(value)),
            tr("use up to 31 small letters, digits and hyphens, beginning with a letter"),
        )
    return value


def _learner(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_LEARNER, value):
        raise invalid_value(
            tr("{value} is not the name of a learner", value=quoted(value)),
            tr("use up to 32 small letters, digits and hyphens: it names the machine, too"),
        )
    return value


def _host(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_HOST, value):
        user, at, address = value.rpartition("@")
        if at and re.fullmatch(_HOST, address) and address:
            fix = tr("write {value}", value=f"address: {address}, user: {user}")
        else:
            fix = tr("write a host name or an IP address")
        raise invalid_value(tr("{value} is not the address of a machine", value=quoted(value)), fix)
    return value


def _incus_name(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_INCUS_NAME, value):
        raise invalid_value(
            tr("{value} is not a name in Incus", value=quoted(value)),
            tr("use letters, digits and the signs _ . - / as the command incus shows it"),
        )
    return value


def _path(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_PATH, value):
        raise invalid_value(
            tr("{value} is not a path", value=quoted(value)),
            tr("leave out control characters; begin with ./ what begins with a hyphen"),
        )
    return value


def _learners(value: Any) -> Any:
    """The names; a number N means learner-01 to learner-N."""
    if isinstance(value, list):
        if not value or len(value) > MOST_LEARNERS:
            raise invalid_value(
                tr("a class has 1 to {most} learners, not {n}", most=MOST_LEARNERS, n=len(value))
            )
        return value
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,4}", value.strip()):
        raise invalid_value(
            tr("is neither a number nor a list of names"),
            tr("write {value}", value="30, or [amy, bob]"),
        )
    number = int(value)
    if not 1 <= number <= MOST_LEARNERS:
        raise invalid_value(
            tr("a class has 1 to {most} learners, not {n}", most=MOST_LEARNERS, n=number)
        )
    digits = max(2, len(str(number)))
    return [f"learner-{count:0{digits}}" for count in range(1, number + 1)]


def _lesson(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_LESSON, value):
        raise invalid_value(
            tr("{value} is not the id of a lesson", value=quoted(value)),
            tr("look with {command}", command="labctl lessons"),
        )
    return value


def parse_time(text: str) -> datetime:
    """A time with its zone, as ISO 8601 has it. Raises ValueError for anything else."""
    time = datetime.fromisoformat(text.strip().replace(" +", "+"))
    if time.tzinfo is None:
        raise ValueError(text)
    return time


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_time(value)
    except ValueError:
        fix = tr("write {value}", value="2027-03-05T17:00+08:00")
        raise invalid_value(
            tr("{value} is not a time with its zone", value=quoted(value)), fix
        ) from None


Time = Annotated[
    datetime, BeforeValidator(_time), WithJsonSchema({"type": "string", "pattern": _TIME})
]
LessonId = Annotated[str, BeforeValidator(_lesson), Field(json_schema_extra={"pattern": _LESSON})]
Learner = Annotated[str, BeforeValidator(_learner)]
Learners = Annotated[
    tuple[Learner, ...],
    BeforeValidator(_learners),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MOST_LEARNERS},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": _LEARNER},
                    "minItems": 1,
                    "maxItems": MOST_LEARNERS,
                    "uniqueItems": True,
                },
            ]
        }
    ),
]
ClassName = Annotated[
    str, BeforeValidator(_class_name), Field(json_schema_extra={"pattern": LAB_NAME})
]


Host = Annotated[str, BeforeValidator(_host), Field(json_schema_extra={"pattern": _HOST})]
IncusName = Annotated[
    str, BeforeValidator(_incus_name), Field(json_schema_extra={"pattern": _INCUS_NAME})
]
FilePath = Annotated[str, BeforeValidator(_path), Field(json_schema_extra={"pattern": _PATH})]


class SizeSpec(_Model):
    """How large a learner's machine must be at least."""

    cpus: Count = Field(2, ge=1, le=64, description="Virtual CPUs, at least. Default: 2.")
    memory: MiB = Field(
        4096, ge=64, le=1048576, description="Memory in MiB, at least. Default: 4096."
    )
    disk: GiB = Field(20, ge=0, le=4096, description="Disk in GiB, at least. Default: 20.")


class OpenStackSpec(_Model):
    """What the engine openstack needs to know of the cloud. Everything may be left out."""

    cloud: OpenStackName | None = Field(
        None,
        description="Name of the cloud in clouds.yaml. Left out: as the command openstack does, by "
        "the variables OS_CLOUD, OS_AUTH_URL, …",
        examples=["campus"],
    )
    image: OpenStackName = Field(
        "debian-13",
        description="What machines boot from: the name or ID of an image in the cloud, or the path "
        "of a file ending in .qcow2, .img or .raw, which is uploaded. Default: debian-13.",
        examples=["./golden.qcow2"],
    )
    flavor: OpenStackName | None = Field(
        None,
        description="Name of the flavor. Left out: the smallest that has what size asks for.",
        examples=["m1.medium"],
    )
    access: Literal["floating", "fixed"] = Field(
        "floating",
        description="How a machine is reached. floating: labctl makes a network and a router, and "
        "each machine has a floating IP. fixed: machines are on a network that is there, and "
        "reached at their address on it. Default: floating.",
    )
    network: OpenStackName | None = Field(
        None,
        description="With access floating the external network (left out: the only one); with "
        "access fixed the network that machines are on.",
        examples=["public"],
    )
    cidr: Subnet = Field(
        IPv4Network("10.99.0.0/22"),
        description="Range of the network that labctl makes with access floating. "
        "Default: 10.99.0.0/22.",
        examples=["10.99.0.0/22"],
    )
    reached_from: tuple[Subnet, ...] = Field(
        (),
        description="Networks from which SSH to the machines is let in. Left out: from anywhere. "
        "Learners' machines never reach each other's.",
        examples=[["203.0.113.0/24"]],
    )
    dns: tuple[Address, ...] = Field(
        (),
        description="DNS servers told to machines by DHCP with access floating. Left out: the "
        "cloud's.",
        examples=[["8.8.8.8"]],
    )
    availability_zone: ZoneName = Field(
        "", description="Availability zone of the machines. Left out: Nova chooses."
    )


class MachineSpec(_Model):
    """A machine that is there already, for the engine ssh. The address must be given."""

    address: Host = Field(
        "",
        description="Name or address at which its SSH server is reached.",
        examples=["192.0.2.11", "lab-11.example.org"],
    )
    port: Count = Field(22, ge=1, le=65535, description="Port of its SSH server. Default: 22.")
    user: UserName | None = Field(
        None, description="User to log in as. Left out: the class's user.", examples=["root"]
    )
    key: FilePath | None = Field(
        None, description="Private key that it lets in. Left out: that of ssh.key."
    )
    learner: Learner | None = Field(
        None, description="Whose machine it is. Left out: labctl gives it to a learner without."
    )


class SSHSpec(_Model):
    """The machines of the engine ssh, which somebody else has made."""

    key: FilePath | None = Field(
        None,
        description="Private key that the machines let in, relative to class.yaml. Left out: the "
        "keys, agent and settings of your own ssh.",
        examples=["~/.ssh/id_ed25519"],
    )
    machines: tuple[MachineSpec, ...] = Field(
        (),
        description="The machines, at least as many as learners.",
        examples=[[{"address": "192.0.2.11"}, {"address": "192.0.2.12", "learner": "amy"}]],
    )


class IncusSpec(_Model):
    """What the engine incus needs to know of the server or cluster. Everything may be left out."""

    remote: IncusName | None = Field(
        None,
        description="Name of the server in `incus remote list`. Left out: the incus client's "
        "default, which is the server on this machine.",
        examples=["school"],
    )
    project: IncusName | None = Field(
        None, description="Project in Incus. Left out: that of the remote, or default."
    )
    type: Literal["vm", "container"] = Field(
        "vm",
        description="What a machine is. vm: a virtual machine. container: a system container, "
        "which may nest others; learners are root there, and share the kernel of the server. "
        "Default: vm.",
    )
    image: FilePath = Field(
        "debian/13/cloud",
        description="What machines boot from, with cloud-init in it: the alias or fingerprint of "
        "an image in Incus, REMOTE:ALIAS for a server of images in `incus remote list`, or the "
        "path of a file ending in .tar, .tar.gz, .tar.xz or .tar.zst, which is uploaded. "
        "Default: debian/13/cloud.",
        examples=["images:debian/13/cloud", "./golden.tar.xz"],
    )
    pool: IncusName | None = Field(
        None,
        description="Storage pool of the machines' disks. Left out: that of the profile default, "
        "or the only one.",
    )
    target: IncusName | None = Field(
        None,
        description="Cluster member, or @GROUP of members, that machines are made on. Left out: "
        "the cluster chooses.",
        examples=["@lab"],
    )
    access: Literal["port", "fixed"] = Field(
        "port",
        description="How a machine is reached. port: labctl makes a network, and each machine has "
        "a port of the server that it is on. fixed: machines are on a network that is there, and "
        "reached at their address on it. Default: port.",
    )
    network: IncusName | None = Field(
        None,
        description="With access fixed the network that machines are on: one of Incus, or a bridge "
        "of the server.",
        examples=["br0"],
    )
    cidr: Subnet = Field(
        IPv4Network("10.98.0.0/22"),
        description="Range of the network that labctl makes with access port. "
        "Default: 10.98.0.0/22.",
        examples=["10.98.0.0/22"],
    )
    listen: Address | None = Field(
        None,
        description="Address of the server at which ports are opened. Left out: each cluster "
        "member's own, or that of the server.",
        examples=["192.0.2.5"],
    )
    first_port: Count = Field(
        22001,
        ge=1024,
        le=65535,
        description="Port of the first learner; the others have the next ones. Default: 22001.",
    )


class ClassSpec(_Model):
    """One class: a machine for each learner. Name and learners must be given."""

    name: ClassName = Field(
        description="Name of the class, unique in the cloud's project: all that labctl makes is "
        "labelled with it. Up to 31 small letters, digits and hyphens, beginning with a letter.",
        examples=["ovn-day"],
    )
    engine: Literal["openstack", "incus", "ssh"] = Field(
        "openstack",
        description="Where the machines are from. openstack: a cloud makes them. incus: an Incus "
        "server or cluster makes them. ssh: they are there, and ssh.machines lists them.",
    )
    learners: Learners = Field(
        description="A number N, which means learner-01 to learner-N, or a list of names: small "
        "letters, digits and hyphens.",
        examples=[30, ["amy", "bob"]],
    )
    user: UserName = Field(
        "debian", description="User of the image that learners log in as. Default: debian."
    )
    ends: Time | None = Field(
        None,
        description="When the class ends, with its zone. It is told to teacher and learners; "
        "nothing happens by itself. Left out: it has no end.",
        examples=["2027-03-05T17:00+08:00"],
    )
    lab: FilePath = Field(
        "lab",
        description="Directory on a learner's machine that holds their lab.yaml, relative to the "
        "home of the user. Default: lab.",
        examples=["lab", "/srv/lab"],
    )
    lesson: LessonId | None = Field(
        None,
        description="Id of the lesson that `class check` grades. Left out: the one that each "
        "learner is in.",
        examples=["ovn-logical-switch"],
    )
    labctl: FilePath = Field(
        "labctl",
        description="How labctl is called on a learner's machine. Default: labctl.",
        examples=["/opt/labctl/bin/labctl"],
    )
    size: SizeSpec = Field(SizeSpec(), description="How large a learner's machine is.")
    parallel: Count = Field(
        8, ge=1, le=64, description="Machines that are worked on at a time. Default: 8."
    )
    minutes: Count = Field(
        15,
        ge=1,
        le=240,
        description="Minutes after which create and destroy stop waiting for the engine. "
        "Default: 15.",
    )
    openstack: OpenStackSpec = Field(
        OpenStackSpec(), description="The cloud, for the engine openstack."
    )
    incus: IncusSpec = Field(
        IncusSpec(), description="The server or cluster, for the engine incus."
    )
    ssh: SSHSpec = Field(SSHSpec(), description="The machines, for the engine ssh.")

    def require(self, learners: Iterable[str]) -> None:
        """Raises LabError if one of these is no learner of the class."""
        for name in learners:
            if name not in self.learners:
                raise LabError(
                    tr("there is no learner {name} in this class", name=repr(name)),
                    hint=tr("the learners are: {names}", names=tr_list(self.learners)),
                    code=EXIT_USAGE,
                )
