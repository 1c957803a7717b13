"""Waits until OVN works on every node: the last step of a lab without OpenStack."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from labctl.access.guest import Guest, GuestError
from labctl.engine.wait import NotYet, wait_until
from labctl.i18n import tr, tr_list
from labctl.probes import ProbeContext
from labctl.probes.ovn import chassis
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection


def chassis_ready(topology: Topology, controller: Guest, cloud: "Callable[[], Connection]") -> bool:
    """True when every node is in the southbound database and has applied what is in it.

    Raises NotYet naming the missing nodes, GuestError when the databases do not answer.
    """
    registered = {
        row["name"] for row in chassis(ProbeContext(topology, cloud, lambda name: controller), {})
    }
    if missing := [node.name for node in topology.nodes if node.name not in registered]:
        raise NotYet(tr("{names} not yet registered", names=tr_list(missing)))
    # A node that has died still has its row. `--wait=hv` returns only after the ovn-controller of
    # every chassis has applied the present state (ovn-nbctl(8)), so it shows which are alive.
    synced = controller.run(
        ["ovn-nbctl", f"--timeout={15 * controller.timeout_factor}", "--wait=hv", "sync"],
        timeout=30,
        check=False,
    )
    if not synced.ok:
        raise NotYet(tr("a chassis has not caught up with the databases"))
    return True


def wait_for_chassis(
    topology: Topology,
    controller: Guest,
    cloud: "Callable[[], Connection]",
    cancelled: Callable[[], bool],
) -> None:
    """Wait until every node works as a chassis.

    Raises LabError after two minutes, times the controller's timeout factor.
    """
    wait_until(
        tr("every node is a chassis"),
        lambda: chassis_ready(topology, controller, cloud),
        deadline=120 * controller.timeout_factor,
        hint=tr("`labctl logs NODE {service}` tells what it waits for", service="ovn-controller"),
        transient=(GuestError, ValueError),
        interval=0.5,
        cancelled=cancelled,
    )
