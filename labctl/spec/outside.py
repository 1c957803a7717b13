"""Rules of `internet`: the clients outside the lab."""

from ipaddress import IPv4Address

from labctl.i18n import tr
from labctl.spec.defaults import far_end
from labctl.spec.fields import CONTAINERS
from labctl.spec.model import LabSpec
from labctl.spec.problems import KeyPath
from labctl.spec.verdicts import INTERNET, RuleReport, fix_in_subnet, taken_by, why_no_host

MOST_CLIENTS = 20
CLIENTS: KeyPath = ("internet", "clients")


def clients(spec: LabSpec, report: RuleReport) -> None:
    """Whether the lab can have clients at all; their names and addresses."""
    if not spec.internet.clients:
        return
    _possible(spec, report)
    if (count := len(spec.internet.clients)) > MOST_CLIENTS:
        report.add(
            CLIENTS,
            tr("{value} is too large: the most is {most}", value=count, most=MOST_CLIENTS),
        )
    for name in spec.internet.clients:
        _name(spec, report, name)
    _addresses(spec, report)


def _possible(spec: LabSpec, report: RuleReport) -> None:
    if spec.provider not in ("auto", *CONTAINERS):
        report.add(
            CLIENTS,
            tr(
                "there are no clients with provider {provider}: nobody comes in through the NAT"
                " network of its machines",
                provider=spec.provider,
            ),
            tr("write {value}, or leave the clients out", value="provider: nspawn"),
            other_paths=[("provider",)],
        )
    if spec.nat.uplink == "host":
        report.add(
            CLIENTS,
            tr(
                "with nat.uplink: host the real Internet is behind the gateway, and no client of"
                " the lab"
            ),
            tr("write {value}, or leave the clients out", value="nat.uplink: simulated"),
            other_paths=[("nat", "uplink")],
        )


def _name(spec: LabSpec, report: RuleReport, name: str) -> None:
    path: KeyPath = (*CLIENTS, name)
    if not report.is_host_name(path, name):
        return
    if name.isdecimal() or name in ("localhost", "internet"):
        report.add_for_key(path, tr("is taken for something else"), tr("choose another name"))
    elif name in spec.nodes or name in spec.instances:
        report.add_for_key(
            path, tr("a node or an instance has this name already"), tr("choose another name")
        )


def _addresses(spec: LabSpec, report: RuleReport) -> None:
    subnet = spec.internet.subnet
    owners: dict[IPv4Address, str] = {}
    for name, client in spec.internet.clients.items():
        path: KeyPath = (*CLIENTS, name, "address")
        if reason := why_no_host(client.address, subnet):
            report.add(path, reason, fix_in_subnet(subnet), other_paths=[INTERNET])
        elif client.address == far_end(subnet):
            report.add(
                path,
                tr("{address} is the gateway of this network", address=client.address),
                report.fix_other_address(INTERNET, subnet),
                other_paths=[INTERNET],
            )
        if (owner := owners.setdefault(client.address, name)) != name:
            path, other = report.later_then_earlier(path, (*CLIENTS, owner, "address"))
            report.add(
                path,
                taken_by(client.address, other[-2]),
                report.fix_other_address(INTERNET, subnet),
                other_paths=[other],
            )
