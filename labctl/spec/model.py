"""lab.yaml as frozen models. Editors show the descriptions here while one types.

Defaults are filled in before validation (`defaults.fill_defaults`): no value of a `LabSpec` is
missing. `fields.py` checks each value alone. `rules.py` checks values together, and only
`load.parse_spec` and `load.load_spec` run it: use these to make a LabSpec.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.spec.defaults import INTERNET, LEAST_MEMORY, NAT, PRIVATE, TENANT, fill_defaults
from labctl.spec.fields import (
    INSTANCE_NAME,
    NODE_NAME,
    OWN_BOX,
    Address,
    BoxName,
    BoxVersion,
    Count,
    Flag,
    GiB,
    ImageSource,
    KeypairName,
    LabName,
    Mac,
    MiB,
    OpenStackName,
    OvnOption,
    PhysicalNetwork,
    ProviderName,
    Subnet,
    UserName,
    VlanRange,
    ZoneName,
)

Role = Literal["controller", "gateway", "compute"]
Stack = Literal["openstack", "ovn"]
Attach = Literal["internal", "hostonly"]
Uplink = Literal["simulated", "host"]
ServicePlugin = Literal["port_forwarding", "qos", "trunk", "dns", "log"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MacSpec(_Model):
    """MAC addresses of one node's interfaces."""

    eth0: Mac | None = Field(
        None,
        description="MAC address of eth0, such as 52:54:00:f9:f0:f0. "
        "Left out, it is made from the names of lab and node and never changes.",
    )
    eth1: Mac | None = Field(
        None,
        description="MAC address of eth1, such as 52:54:00:ea:65:ed. "
        "Left out, it is made from the names of lab and node and never changes.",
    )


class NodeSpec(_Model):
    """One machine of the lab. Everything may be left out."""

    roles: tuple[Role, ...] = Field(
        description="What the node does: controller (OpenStack's services and the OVN databases), "
        "gateway (br-ex: the way to the Internet), compute (instances run here). A lab has one "
        "controller, one or more gateways and one or more computes; gateway may stand alone (Open "
        "vSwitch and ovn-controller only), beside controller or beside compute. Left out: compute, "
        "except for one node, which becomes [controller, gateway] if no node is given the role "
        "controller: the first whose name contains “controller”, else the first.",
        examples=[["compute"]],
    )
    eth1: Address = Field(
        description="Address on the private network, in private.subnet. Left out: host .10 for the "
        "controller, .20, .30, … for the others in their order, or the next free one.",
        examples=["192.168.33.20"],
    )
    cpus: Count = Field(2, ge=1, le=64, description="Number of virtual CPUs. Default: 2.")
    memory: MiB = Field(
        le=1048576,
        description="Memory in MiB. Default: 4096 for the controller (at least 2048), "
        "3072 for a compute (at least 1024); 512 for a gateway without another role and, with "
        "stack ovn, for every node (at least 384).",
        examples=[4096, 3072],
        # The least memory depends on the stack: labctl.spec.rules checks it.
        json_schema_extra={"minimum": min(LEAST_MEMORY.values())},
    )
    availability_zone: ZoneName = Field(
        "",
        description="Availability zone of a gateway: Neutron puts a router that asks for the zone "
        "(openstack router create --availability-zone-hint) on its gateways. Default: none.",
        examples=["az-1"],
    )
    mac: MacSpec = Field(MacSpec(), description="MAC addresses of the interfaces; best left out.")


class NatSpec(_Model):
    """eth0 of every node: its own isolated NAT network, as VirtualBox makes them, or a shared one.

    Isolated, all nodes have the same address there and cannot reach each other; behind each eth0
    lies an Internet of its own, and behind the gateway node's the external network of OpenStack.
    """

    subnet: Subnet = Field(
        description="Network of eth0, and range of the external subnet. Default: 10.0.2.0/24.",
        examples=[NAT],
    )
    gateway: Address = Field(
        description="Gateway to the Internet. Default: the second host, 10.0.2.2.",
        examples=["10.0.2.2"],
    )
    address: Address = Field(
        description="Address every node has on eth0; with nat.shared that of the first gateway. "
        "Default: host 15 (10.0.2.15), or the next free one where the subnet is too small for it.",
        examples=["10.0.2.15"],
    )
    uplink: Uplink = Field(
        "simulated",
        description="What is behind the gateway. simulated: a namespace plays the Internet "
        "(8.8.8.8 answers ping), so the lab works on a plane. host: the host's real uplink.",
    )
    shared: Flag = Field(
        False,
        description="true: all eth0 are on one network, with one gateway and one Internet behind "
        "it. The first gateway node has nat.address, the others the next free addresses outside "
        "external.pool. So a router's gateway port, or a floating IP, works on whichever node has "
        "it. nspawn only; with libvirt all eth0 are on one network anyhow. Default: false.",
    )


class PrivateSpec(_Model):
    """eth1 of every node: the shared segment that carries Geneve and the OpenStack APIs."""

    subnet: Subnet = Field(
        description="Network of eth1, the underlay of Geneve. Default: 192.168.33.0/24.",
        examples=[PRIVATE],
    )
    attach: Attach = Field(
        "internal",
        description="What the network is to virtual machines. internal: the lab's own, which "
        "nobody else sees. hostonly: the laptop has its first address; VirtualBox allows that in "
        "192.168.56.0/21 only, unless /etc/vbox/networks.conf says otherwise. Default: internal.",
    )


class ClientSpec(_Model):
    """A machine out on the simulated Internet. Everything may be left out."""

    address: Address = Field(
        description="Address in internet.subnet. Left out: host 10 for the first client, 11, 12, … "
        "for the following, or the next free one.",
        examples=["198.51.100.10"],
    )


class InternetSpec(_Model):
    """What is on the simulated Internet besides 8.8.8.8, behind the gateway node's eth0."""

    subnet: Subnet = Field(
        description="Network of the clients; its first address is the gateway, which routes "
        "between it and nat.subnet and translates nothing. Default: 198.51.100.0/24, one of the "
        "ranges for documentation (RFC 5737).",
        examples=[INTERNET],
    )
    clients: dict[str, ClientSpec] = Field(
        {},
        description="Machines of their own on that network, by host name: from there connections "
        "to floating IPs and forwarded ports are opened, and tcpdump shows what the Internet sees. "
        "They are behind the first gateway node. Containers with nat.uplink simulated only. "
        "Default: none.",
        json_schema_extra={"propertyNames": {"pattern": NODE_NAME}},
    )


class NetworkSpec(_Model):
    """A further network between all nodes, at a card of its own. Everything may be left out."""

    physical_network: PhysicalNetwork | None = Field(
        None,
        description="Name of the network in OVN's bridge mappings (physnet1:br-eth2): the card is "
        "a port of a bridge then, and flat and VLAN networks may be made on it. Left out: none.",
        examples=["physnet1"],
    )
    vlans: VlanRange = Field(
        "",
        description="VLANs that Neutron may choose from on the physical network, FIRST:LAST. Left "
        "out: only those that are asked for by number.",
        examples=["100:199"],
    )
    subnet: Subnet | None = Field(
        None,
        description="Network of the nodes' own addresses there, as large as private.subnet: each "
        "node has the host number that it has on eth1. Left out: nodes have no address.",
        examples=["192.168.34.0/24"],
    )


class PoolSpec(_Model):
    """Addresses Neutron may use on the external network: router gateways and floating IPs.

    With stack ovn lessons take the first for the router and the last for the floating IP.
    """

    start: Address = Field(
        description="First address of the allocation pool. Default: host 210 of nat.subnet "
        "(10.0.2.210), with stack ovn host 100; where that does not fit, the pool is up to 11 "
        "addresses that are free.",
        examples=["10.0.2.210"],
    )
    end: Address = Field(
        description="Last address of the allocation pool. Default: host 220 of nat.subnet "
        "(10.0.2.220), with stack ovn host 200. The pool needs two addresses: router gateway and "
        "floating IP.",
        examples=["10.0.2.220"],
    )


class ExternalSpec(_Model):
    """The external network of OpenStack, a flat provider network on eth0 of the gateway node."""

    physical_network: PhysicalNetwork = Field(
        "extnet0",
        description="Name in OVN's bridge mappings (extnet0:br-ex). Default: extnet0.",
    )
    network: OpenStackName = Field(
        "ext_n2", description="Name of the external network. Default: ext_n2."
    )
    subnet: OpenStackName = Field(
        "extsubnet",
        description="Name of its subnet (its range is nat.subnet). Default: extsubnet.",
    )
    pool: PoolSpec = Field(description="Allocation pool of the external subnet.")


class NeutronSpec(_Model):
    """What Neutron does besides networks, routers and floating IPs."""

    service_plugins: tuple[ServicePlugin, ...] = Field(
        (),
        description="What to switch on: port_forwarding (ports of a floating IP), qos (bandwidth "
        "limits), trunk (VLANs to an instance), dns (names of ports), log (what security "
        "groups let through or drop). Default: none.",
        examples=[["port_forwarding", "qos"]],
    )
    distributed_floating_ip: Flag = Field(
        False,
        description="true: the compute of an instance translates its floating IP itself, and has a "
        "br-ex for it; false: the gateway does. Reached from outside where all eth0 are on one "
        "network: see nat.shared. Default: false.",
    )
    mtu: Count = Field(
        1500,
        ge=1280,
        le=1500,
        description="MTU of the physical networks that Neutron reckons with, in bytes; networks of "
        "instances get 58 less, for Geneve. Default: 1500.",
    )


class OvnSpec(_Model):
    """OVN's own switches."""

    options: tuple[OvnOption, ...] = Field(
        (),
        description="Options of northd and of the tunnels' BFD, as KEY=VALUE: those of the column "
        "options in the table NB_Global (man ovn-nb), such as bfd-min-rx=200. Default: none.",
        examples=[["bfd-min-rx=200", "bfd-mult=3"]],
    )


class TenantNetworkSpec(_Model):
    """A further network of instances, on the same router. Everything may be left out."""

    subnet: OpenStackName = Field(
        description="Name of its subnet. Default: the network's name and -subnet.",
        examples=["n2-subnet"],
    )
    cidr: Subnet = Field(
        description="Range of the subnet. Default: the next free one as large as tenant.cidr, such "
        "as 172.16.101.0/24.",
        examples=["172.16.101.0/24"],
    )
    gateway: Address = Field(
        description="Address of the router in it. Default: the first host, 172.16.101.1.",
        examples=["172.16.101.1"],
    )


class TenantSpec(_Model):
    """The network instances are on, and the router that leads out of it."""

    network: OpenStackName = Field("n1", description="Name of the tenant network. Default: n1.")
    subnet: OpenStackName = Field("subnet1", description="Name of its subnet. Default: subnet1.")
    cidr: Subnet = Field(
        description="Range of the tenant subnet. Default: 172.16.100.0/24, "
        "with stack ovn 192.168.100.0/24.",
        examples=[TENANT],
    )
    gateway: Address = Field(
        description="Address of the router in it. Default: the first host, 172.16.100.1; "
        "with stack ovn the last one, 192.168.100.254.",
        examples=["172.16.100.1"],
    )
    dns: tuple[Address, ...] = Field(
        description="DNS servers told to instances by DHCP, at most five. Default: [8.8.8.8].",
        examples=[["8.8.8.8"]],
    )
    router: OpenStackName = Field("r", description="Name of the router. Default: r.")
    networks: dict[str, TenantNetworkSpec] = Field(
        {},
        description="Further networks of instances, by name, each with an interface of the same "
        "router. With stack ovn they mean nothing. Default: none.",
        json_schema_extra={"propertyNames": {"pattern": INSTANCE_NAME}},
    )


class InstanceSpec(_Model):
    """One instance. Everything may be left out."""

    address: Address = Field(
        description="Fixed address in the range of its network. Left out: host 10 for the first "
        "instance, 11, 12, … for the following, or the next free one.",
        examples=["172.16.100.10"],
    )
    network: str | None = Field(
        None,
        description="Its network: tenant.network or one of tenant.networks. Default: "
        "tenant.network.",
        examples=["n2"],
    )
    compute: str | None = Field(
        None,
        description="The compute node it runs on. Left out: Nova chooses.",
        examples=["compute-02"],
    )
    image: str | None = Field(
        None,
        description="One of images. Left out: image.",
        examples=["debian"],
    )
    flavor: str | None = Field(
        None,
        description="One of flavors. Left out: flavor.",
        examples=["m1.small"],
    )


class ImageSpec(_Model):
    """The image instances boot from."""

    name: OpenStackName = Field(
        "cirros", description="Name in Glance. Default: cirros; of one of images: its key."
    )
    source: ImageSource = Field(
        "builtin",
        description="builtin (tiny, boots in seconds, needs no Internet), the http:// or https:// "
        "URL of a cloud image, or a path relative to the directory of lab.yaml. Default: builtin.",
    )
    user: UserName = Field("cirros", description="User to log in as by SSH. Default: cirros.")


class FlavorSpec(_Model):
    """The size of instances."""

    name: OpenStackName = Field(
        "m1.nano", description="Name in Nova. Default: m1.nano; of one of flavors: its key."
    )
    vcpus: Count = Field(1, ge=1, le=64, description="Number of virtual CPUs. Default: 1.")
    memory: MiB = Field(128, ge=64, le=1048576, description="Memory in MiB. Default: 128.")
    disk: GiB = Field(
        1, ge=0, le=1024, description="Root disk in GiB; 0 means the image's size. Default: 1."
    )


class BoxSpec(_Model):
    """The Vagrant box that virtual machines begin as. Containers have no use for it."""

    name: BoxName = Field(
        OWN_BOX,
        description="Name of the box. labctl/lab is the one that labctl makes (labctl box get, "
        "labctl box build) or somebody gave you (labctl box add). Default: labctl/lab.",
    )
    version: BoxVersion = Field(
        "", description="Version of the box, such as 13.20251117.1. Left empty, any will do."
    )


class LabSpec(_Model):
    """One lab: OpenStack on OVN, as in the tutorial. Only the name must be given."""

    name: LabName = Field(
        description="Name of the lab: up to 31 small letters, digits and hyphens, beginning with "
        "a letter.",
    )
    provider: ProviderName = Field(
        "auto",
        description="What makes the nodes: nspawn (containers, nothing to install beforehand), "
        "virtualbox or libvirt (virtual machines, by Vagrant). auto takes what the host has.",
    )
    stack: Stack = Field(
        "openstack",
        description="What runs on the nodes. openstack: OpenStack on OVN. ovn: OVN alone, as in "
        "the first days of the tutorial; image, flavor, security_group, keypair and what names "
        "OpenStack's networks mean nothing then. Default: openstack.",
    )
    box: BoxSpec = Field(description="The Vagrant box of virtual machines.")
    nested: Flag = Field(
        False,
        description="true hands the host's virtualization on to virtual machines, so that "
        "instances run on KVM; it needs a host that can do that. Default: false.",
    )
    nodes: dict[str, NodeSpec] = Field(
        description="The machines, by host name. Default: network-controller "
        "(controller and gateway) and compute-01.",
        json_schema_extra={"propertyNames": {"pattern": NODE_NAME}, "minProperties": 2},
    )
    nat: NatSpec = Field(description="eth0 of every node: the way to the Internet.")
    internet: InternetSpec = Field(
        description="Machines on the simulated Internet, outside the lab."
    )
    private: PrivateSpec = Field(description="eth1 of every node: the network between them.")
    networks: dict[str, NetworkSpec] = Field(
        {},
        description="Further networks between all nodes, by the name of the card: eth2 to eth7. "
        "Default: none.",
        json_schema_extra={"propertyNames": {"pattern": "^eth[2-7]$"}},
    )
    external: ExternalSpec = Field(description="OpenStack's external network, on eth0.")
    neutron: NeutronSpec = Field(
        description="What to switch on in Neutron; with stack ovn nothing."
    )
    ovn: OvnSpec = Field(description="What to switch on in OVN.")
    tenant: TenantSpec = Field(description="OpenStack's network for instances, and its router.")
    instances: dict[str, InstanceSpec] = Field(
        description="The instances, by name. Default: vm_1.",
        json_schema_extra={"propertyNames": {"pattern": INSTANCE_NAME}, "minProperties": 1},
    )
    image: ImageSpec = Field(description="What instances boot: the built-in image or your own.")
    flavor: FlavorSpec = Field(description="How large instances are.")
    images: dict[str, ImageSpec] = Field(
        {},
        description="Further images, by the name that instances ask for them with. Default: none.",
        json_schema_extra={"propertyNames": {"pattern": INSTANCE_NAME}},
    )
    flavors: dict[str, FlavorSpec] = Field(
        {},
        description="Further flavors, by the name that instances ask for them with. Default: none.",
        json_schema_extra={"propertyNames": {"pattern": INSTANCE_NAME}},
    )
    security_group: OpenStackName = Field(
        "allow-icmp-ssh",
        description="Name of the security group that allows ICMP and SSH from anywhere. "
        "Default: allow-icmp-ssh.",
    )
    keypair: KeypairName = Field(
        "lab", description="Name of the keypair whose public key instances get. Default: lab."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        return fill_defaults(data) if isinstance(data, dict) else data
