"""openstacksdk against the lab's Keystone, without a listening port on the host.

The SDK's HTTP connections are opened by the controller's guest (`Guest.dial`), so the same code
works for a container's network namespace and for a VM behind SSH.
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
    """requests' transport, with TCP connections that the guest opens."""

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


def login(topology: Topology, password: str) -> Password:
    """A login as the lab's admin, which the connections of several threads may share.

    Nothing is sent before use. Keystone makes one token for all of them, and each service asks
    Keystone once whether that is good: a second or two of a small lab's processor are saved.
    """
    return Password(
        auth_url=f"http://{topology.controller.eth1.address.ip}:5000/v3",
        username="admin",
        password=password,
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
    )


def connect(guest: Guest, auth: Password) -> "openstack.connection.Connection":
    """A connection with that login. `guest` is the controller's; nothing is sent before use.

    A request may take a minute, times the guest's timeout factor.
    """
    transport = requests.Session()
    transport.trust_env = False  # no proxy: the host's proxy cannot reach the lab
    transport.mount("http://", _GuestAdapter(guest))
    session = keystoneauth1.session.Session(
        auth=auth, session=transport, timeout=60 * guest.timeout_factor
    )
    return openstack.connection.Connection(session=session, region_name="RegionOne")


class SharedConnection:
    """One connection to OpenStack for all steps of a lesson, which run one after the other.

    It logs in at once, in a thread beside the first command, because a login takes longer than
    checking most claims.
    """

    def __init__(self, connect: "Callable[[], Connection]") -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        threading.Thread(target=self._log_in, daemon=True).start()

    def __call__(self) -> "Connection":
        """The connection. Raises what `connect` raises."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    def _log_in(self) -> None:
        with suppress(Exception):  # raised again, in __call__, for whoever uses it
            self().session.get_token()
