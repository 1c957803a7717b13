#!/usr/bin/env python3
"""The service users and the catalogue, through one openstacksdk connection.

The `openstack` command would need some thirty calls of three seconds each. Safe to run again.
"""

import os

import openstack

SERVICES = {  # user and service name: (type, port, path)
    "glance": ("image", 9292, ""),
    "placement": ("placement", 8778, ""),
    "neutron": ("network", 9696, ""),
    "nova": ("compute", 8774, "/v2.1"),
}

identity = openstack.connect().identity
address = os.environ["CONTROLLER_ADDRESS"]
password = os.environ["SECRET_SERVICE"]
project = identity.find_project("service") or identity.create_project(
    name="service", domain_id="default"
)
roles = [role for name in ("admin", "service") if (role := identity.find_role(name))]
for name, (kind, port, path) in SERVICES.items():
    user = identity.find_user(name)
    if user is None:
        user = identity.create_user(name=name, password=password, domain_id="default")
    else:
        identity.update_user(user, password=password)
    for role in roles:
        identity.assign_project_role_to_user(project, user, role)
    service = identity.find_service(name) or identity.create_service(name=name, type=kind)
    url = f"http://{address}:{port}{path}"
    known = {endpoint.interface: endpoint for endpoint in identity.endpoints(service_id=service.id)}
    for interface in ("public", "internal", "admin"):
        if interface not in known:
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=url, region_id="RegionOne"
            )
        elif known[interface].url != url:
            identity.update_endpoint(known[interface], url=url)
    print(f"{name}: {kind} at {url}")
