"""class.yaml as frozen models. Editors show the descriptions here while one types."""

import re
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from labctl.i18n import tr
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
_LEARNER = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"


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


class ClassSpec(_Model):
    """One class: a machine for each learner. Name and learners must be given."""

    name: ClassName = Field(
        description="Name of the class, unique in the cloud's project: all that labctl makes is "
        "labelled with it. Up to 31 small letters, digits and hyphens, beginning with a letter.",
        examples=["ovn-day"],
    )
    engine: Literal["openstack"] = Field(
        "openstack",
        description="What makes the machines. openstack: a cloud, through its APIs.",
    )
    learners: Learners = Field(
        description="A number N, which means learner-01 to learner-N, or a list of names: small "
        "letters, digits and hyphens.",
        examples=[30, ["amy", "bob"]],
    )
    user: UserName = Field(
        "debian", description="User of the image that learners log in as. Default: debian."
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
