"""The types of single values in lab.yaml: they parse text to a value, or raise a helpful error.

Checks that need only one value are here; checks that need several are in :mod:`labctl.spec.rules`.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError, PydanticKnownError

from labctl.i18n import mark, tr
from labctl.spec.problems import did_you_mean, printable, quoted

PROVIDERS = ("nspawn", "virtualbox", "libvirt")
"""The names of the providers; what there is to know of each is in labctl/providers/NAME/."""
CONTAINERS = frozenset({"nspawn"})
"""Those of them whose nodes are containers, of which a lab may have some outside as well."""

SHORTEST_PREFIX, LONGEST_PREFIX = 8, 29

# Networks no lab may use, each with the reason. This table, like all tables of texts, is made
# before the user's language is known: `mark` collects the text, `tr` translates it when it is used.
RESERVED = {
    IPv4Network("0.0.0.0/8"): mark("{network} means “this network” and is never routed"),
    IPv4Network("127.0.0.0/8"): mark("{network} is every machine's loopback"),
    IPv4Network("169.254.0.0/16"): mark(
        "{network} is link-local; OVN answers metadata requests at 169.254.169.254"
    ),
    IPv4Network("224.0.0.0/4"): mark("{network} is multicast"),
    IPv4Network("240.0.0.0/4"): mark("{network} is reserved and never routed"),
}

_MAX_NAME = 64

OWN_MESSAGE = "labctl"
"""Type of the pydantic errors that already have our own message."""


def invalid_value(message: str, fix: str = "") -> PydanticCustomError:
    """The error for a validator to raise: our own message, and how to fix the value."""
    # The message is in the context, because pydantic would replace {…} in a template.
    return PydanticCustomError(OWN_MESSAGE, "{message}", {"message": message, "fix": fix})


def _text(value: Any) -> str | None:
    """The value as text; None for a list or a mapping, which pydantic then reports."""
    return value.strip() if isinstance(value, str) else None


def _address(value: Any) -> Any:
    text = _text(value)
    if text is None:
        return value
    try:
        address = ip_address(text)
    except ValueError:
        if "/" in text:
            fix = tr("leave out the prefix length: it is the subnet's")
        elif re.search(r"(^|\.)0\d", text):
            fix = tr("leave out the leading zeros")
        else:
            fix = tr("write four numbers from 0 to 255, such as 192.168.33.10")
        raise invalid_value(tr("{value} is not an IPv4 address", value=quoted(text)), fix) from None
    if not isinstance(address, IPv4Address):
        raise invalid_value(
            tr("{value} is an IPv6 address, and labs are IPv4 only", value=printable(text)),
            tr("give an IPv4 address"),
        )
    for network, reason in RESERVED.items():
        if address in network:
            raise invalid_value(_unusable(address, network, reason), tr("choose another address"))
    return address


def _unusable(value: IPv4Address | IPv4Network, network: IPv4Network, reason: str) -> str:
    return tr("{value} cannot be used: {reason}", value=value, reason=tr(reason, network=network))


def _subnet(value: Any) -> Any:
    text = _text(value)
    if text is None:
        return value
    address, slash, prefix = text.partition("/")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise invalid_value(
            tr("{value} is not an IPv4 network", value=quoted(text)),
            tr("write an address and a prefix length, such as 192.168.33.0/24"),
        ) from None
    if isinstance(network, IPv6Network):
        raise invalid_value(
            tr("{value} is an IPv6 network, and labs are IPv4 only", value=printable(text)),
            tr("give an IPv4 network"),
        )
    if not slash:
        guess = IPv4Network(f"{address}/24", strict=False)
        raise invalid_value(
            tr("{address} has no prefix length", address=address),
            tr("did you mean {meant}?", meant=guess),
        )
    if not prefix.isdecimal():
        raise invalid_value(
            tr("{value} has a netmask for a prefix length", value=text),
            tr("write {value}", value=network),
        )
    if not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        raise invalid_value(
            tr("{network} is too large for a lab", network=network)
            if network.prefixlen < SHORTEST_PREFIX
            else tr("{network} is too small for a lab", network=network),
            tr(
                "choose a prefix length from /{shortest} to /{longest}",
                shortest=SHORTEST_PREFIX,
                longest=LONGEST_PREFIX,
            ),
        )
    if address != str(network.network_address):
        raise invalid_value(
            tr(
                "{value} has bits set behind its prefix: it is an address, not a network",
                value=text,
            ),
            tr("did you mean {meant}?", meant=network),
        )
    for reserved, reason in RESERVED.items():
        if network.overlaps(reserved):
            raise invalid_value(
                _unusable(network, reserved, reason),
                tr("choose a private range, such as 192.168.33.0/24"),
            )
    return network


def _mac(value: Any) -> Any:
    text = _text(value)
    if text is None:
        return value
    mac = text.lower().replace("-", ":")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise invalid_value(
            tr("{value} is not a MAC address", value=quoted(text)),
            tr("write six pairs of hexadecimal digits, such as 52:54:00:12:34:56"),
        )
    if int(mac[:2], 16) & 1:
        raise invalid_value(
            tr("{mac} is a multicast address, which no interface may have", mac=mac),
            tr(
                "make the first pair even, such as {mac}",
                mac=f"{int(mac[:2], 16) - 1:02x}{mac[2:]}",
            ),
        )
    if mac == "00:00:00:00:00:00":
        raise invalid_value(
            tr("{mac} is no interface's address", mac=mac), tr("leave mac out and one is made")
        )
    return mac


def _whole_number(unit: str) -> Callable[[Any], Any]:
    def number(value: Any) -> Any:
        text = _text(value)
        if text is None or re.fullmatch(r"-?[0-9]{1,18}", text):
            return value
        if re.fullmatch(r"-?[0-9]+", text):
            raise invalid_value(tr("{value} has more than 18 digits", value=printable(text)))
        fix = tr("write digits only")
        giga = re.fullmatch(r"([0-9]{1,9}) ?(g|gb|gib)", text.lower())
        mega = re.fullmatch(r"([0-9]{1,9}) ?(m|mb|mib)", text.lower())
        if unit == "MiB" and giga:
            fix = tr("write {value}", value=int(giga[1]) * 1024)
        elif (unit == "MiB" and mega) or (unit == "GiB" and giga):
            fix = tr("write {value}", value=(mega or giga)[1])  # type: ignore[index]
        raise invalid_value(
            tr("{value} is not a whole number of {unit}", value=quoted(text), unit=unit)
            if unit
            else tr("{value} is not a whole number", value=quoted(text)),
            fix,
        )

    return number


def _openstack_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        raise invalid_value(tr("is empty"), tr("give it a name, or leave the key out"))
    if len(value) > _MAX_NAME:
        raise invalid_value(tr("is longer than {n} characters", n=_MAX_NAME), tr("shorten it"))
    if not value.isprintable():
        raise invalid_value(
            tr("{value} holds a control character", value=quoted(value)), tr("use printable text")
        )
    if value != value.strip():
        raise invalid_value(
            tr("{value} begins or ends with a space", value=quoted(value)), tr("remove it")
        )
    if value.startswith("-"):
        raise invalid_value(
            tr(
                "{value} begins with a hyphen: the openstack command would read an option",
                value=quoted(value),
            ),
            tr("begin with a letter or a digit"),
        )
    return value


def _matching(pattern: str, message: str, fix: str) -> BeforeValidator:
    """A validator: the whole text must match `pattern`; `message` and `fix` are for `tr`."""
    compiled = re.compile(pattern)

    def check(value: Any) -> Any:
        if isinstance(value, str) and not compiled.fullmatch(value):
            raise invalid_value(tr(message, value=quoted(value)), tr(fix))
        return value

    return BeforeValidator(check)


def _own_box(name: str) -> str:
    """`auto`, the default up to version 0.1, is labctl's own box."""
    return OWN_BOX if name == "auto" else name


def _source(value: Any) -> Any:
    if not isinstance(value, str) or value == "builtin":
        return value
    if not value.isprintable() or not value.strip():
        raise invalid_value(
            tr("{value} is neither a path nor a URL", value=quoted(value)),
            tr("write {value}", value="builtin"),
        )
    if "://" in value:
        try:
            url = urlsplit(value)
            usable = url.scheme in ("http", "https") and bool(url.hostname) and " " not in value
        except ValueError:
            usable = False
        if not usable:
            raise invalid_value(
                tr("{value} is not a URL an image can be fetched from", value=printable(value)),
                tr("give an http:// or https:// URL, a path, or builtin"),
            )
    elif "/" not in value and "." not in value:
        raise invalid_value(
            tr("{value} is neither builtin nor a URL nor a path", value=quoted(value)),
            tr("did you mean {meant}?", meant="builtin")
            if did_you_mean(value, ["builtin"])
            else tr("for a file write {path}", path=f"./{printable(value)}"),
        )
    return value


def _flag(value: Any) -> Any:
    text = _text(value)
    if text is None:
        return value
    values = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() not in values:
        raise invalid_value(
            tr("{value} is neither true nor false", value=quoted(text)), tr("write true or false")
        )
    return values[text.lower()]


LAB_NAME = "^[a-z][a-z0-9-]{0,30}$"
NODE_NAME = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
INSTANCE_NAME = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
_PHYSICAL_NETWORK = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_VLANS = "^([0-9]{1,4}:[0-9]{1,4})?$"
_ZONE = "^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$"
# Goes into a shell's word list and into ovn-nbctl's own syntax: no spaces, commas or quotes.
_OVN_OPTION = "^[a-z][a-z0-9_-]{0,63}=[A-Za-z0-9_.:/-]{1,64}$"
_KEYPAIR = "^[A-Za-z0-9_][A-Za-z0-9 _-]{0,63}$"
_USER = "^[a-z_][a-z0-9_-]{0,31}$"
# Both go into a Vagrantfile: no characters that have a meaning in Ruby or in a shell.
OWN_BOX = "labctl/lab"
"""Vagrant's name of the box that labctl makes, and the default."""
_BOX_NAME = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,63})?$"
_BOX_VERSION = "^([0-9][0-9A-Za-z.+~-]{0,63})?$"
_MAC = "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"


def _provider_name(value: Any) -> Any:
    known = ("auto", *PROVIDERS)
    if value not in known:
        raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, known))})
    return value


Address = Annotated[IPv4Address, BeforeValidator(_address)]
Subnet = Annotated[
    IPv4Network,
    BeforeValidator(_subnet),
    Field(json_schema_extra={"pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$"}),
]
Mac = Annotated[str, BeforeValidator(_mac), Field(json_schema_extra={"pattern": _MAC})]
LabName = Annotated[
    str,
    _matching(
        LAB_NAME,
        mark("{value} is not a lab's name"),
        mark("use up to 31 small letters, digits and hyphens, beginning with a letter"),
    ),
    Field(json_schema_extra={"pattern": LAB_NAME}),
]
ProviderName = Annotated[
    str, BeforeValidator(_provider_name), Field(json_schema_extra={"enum": ["auto", *PROVIDERS]})
]
OpenStackName = Annotated[
    str,
    BeforeValidator(_openstack_name),
    Field(json_schema_extra={"minLength": 1, "maxLength": _MAX_NAME}),
]
PhysicalNetwork = Annotated[
    str,
    _matching(
        _PHYSICAL_NETWORK,
        mark("{value} cannot name a physical network"),
        mark("use up to 64 letters, digits, dots, hyphens and underscores, as in extnet0"),
    ),
    Field(json_schema_extra={"pattern": _PHYSICAL_NETWORK}),
]
VlanRange = Annotated[
    str,
    _matching(
        _VLANS,
        mark("{value} is no range of VLANs"),
        mark("write FIRST:LAST, from 1 to 4094"),
    ),
    Field(json_schema_extra={"pattern": _VLANS}),
]
ZoneName = Annotated[
    str,
    _matching(
        _ZONE,
        mark("{value} cannot name an availability zone"),
        mark("use up to 64 letters, digits, dots, hyphens and underscores, as in az-1"),
    ),
    Field(json_schema_extra={"pattern": _ZONE}),
]
OvnOption = Annotated[
    str,
    _matching(
        _OVN_OPTION,
        mark("{value} is not an option of OVN"),
        mark("write KEY=VALUE, such as bfd-min-rx=200"),
    ),
    Field(json_schema_extra={"pattern": _OVN_OPTION}),
]
KeypairName = Annotated[
    str,
    _matching(
        _KEYPAIR,
        mark("{value} cannot name a keypair"),
        mark("Nova allows letters, digits, spaces, hyphens and underscores; up to 64 here"),
    ),
    AfterValidator(_openstack_name),
    Field(json_schema_extra={"pattern": _KEYPAIR}),
]
UserName = Annotated[
    str,
    _matching(
        _USER,
        mark("{value} is not a Linux user's name"),
        mark("use up to 32 small letters, digits, hyphens and underscores"),
    ),
    Field(json_schema_extra={"pattern": _USER}),
]
BoxName = Annotated[
    str,
    _matching(
        _BOX_NAME,
        mark("{value} is not the name of a Vagrant box"),
        mark("write it as Vagrant does, as in debian/bookworm64, or labctl/lab"),
    ),
    AfterValidator(_own_box),
    Field(json_schema_extra={"pattern": _BOX_NAME}),
]
BoxVersion = Annotated[
    str,
    _matching(
        _BOX_VERSION,
        mark("{value} is not the version of a Vagrant box"),
        mark("write one version, such as 12.20250126.1, or leave it out for any"),
    ),
    Field(json_schema_extra={"pattern": _BOX_VERSION}),
]
ImageSource = Annotated[str, BeforeValidator(_source)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_whole_number(""))]
MiB = Annotated[int, BeforeValidator(_whole_number("MiB"))]
GiB = Annotated[int, BeforeValidator(_whole_number("GiB"))]
