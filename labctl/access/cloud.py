"""openstacksdk against the lab's Keystone, without a port that anybody else could reach.

The SDK's HTTP connections are opened by the controller's guest (`Guest.dial`), so the same code
works for a container's network namespace and for a VM behind SSH, and nothing listens on the host.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import keystoneauth1.session
import openstack
import openstack.connection
import requests
import urllib3
from keystoneauth1.exceptions import ClientException
from keystoneauth1.identity.v3 import Password
from openstack.exceptions import SDKException
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError

from labctl.access.guest import Guest
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

API_ERRORS = (SDKException, ClientException, OSError)
"""What a call may raise while a service is still starting."""


class _GuestAdapter(HTTPAdapter):
    """requests' transport with another way to open a TCP connection."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        guest = self._guest

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                try:
                    return guest.dial(self.host, self.port or 80)
                except OSError as error:
                    raise NewConnectionError(self, str(error)) from error

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        assert isinstance(self.poolmanager, urllib3.PoolManager)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool}


def connect(topology: Topology, guest: Guest, password: str) -> "openstack.connection.Connection":
    """A connection as the lab's admin. `guest` is the controller's; nothing is sent before use.

    A request may take a minute, times the guest's patience.
    """
    transport = requests.Session()
    transport.trust_env = False  # a proxy of the host knows no way into the lab
    transport.mount("http://", _GuestAdapter(guest))
    auth = Password(
        auth_url=f"http://{topology.controller.eth1.address.ip}:5000/v3",
        username="admin",
        password=password,
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
    )
    session = keystoneauth1.session.Session(
        auth=auth, session=transport, timeout=60 * guest.patience
    )
    return openstack.connection.Connection(session=session, region_name="RegionOne")


class OneLogin:
    """One connection to OpenStack for all steps: they run one after the other.

    Connecting begins at once, beside the first command: it takes longer than most claims.
    """

    def __init__(self, connect: "Callable[[], Connection]") -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._made: Connection | None = None
        threading.Thread(target=self._log_in, daemon=True).start()

    def __call__(self) -> "Connection":
        """The connection. Raises what `connect` raises."""
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _log_in(self) -> None:
        with suppress(Exception):  # whoever needs the connection will hear of it
            self().session.get_token()
