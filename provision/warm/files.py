"""Files that people edit, addresses, and the image service's files: kept and put back."""

import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

ROOTS = ("/etc", "/root", "/usr/local", "/home", "/srv", "/var/lib/labctl")
# Databases, which are put back as such; what labctl itself writes; what is only history.
SKIPPED = {
    "/etc/openvswitch/conf.db", "/etc/openvswitch/.conf.db.~lock~", "/etc/labctl",
    "/etc/libvirt/qemu", "/etc/mtab", "/etc/resolv.conf", "/root/.cache", "/root/.bash_history",
    "/root/.ssh/authorized_keys", "/root/.ssh/known_hosts", "/var/lib/labctl/snapshots",
    "/var/lib/labctl/done", "/etc/.pwd.lock",
}  # fmt: skip
IMAGES = Path("/var/lib/glance/images")

# Which units read what; a unit is only restarted on a node that has it.
READERS = {
    "/etc/nova": ("nova-api", "nova-api-metadata", "nova-conductor", "nova-scheduler",
                  "nova-compute"),
    "/etc/neutron": ("neutron-api", "neutron-ovn-maintenance-worker",
                     "neutron-ovn-metadata-agent"),
    "/etc/keystone": ("keystone",),
    "/etc/glance": ("glance-api",),
    "/etc/placement": ("placement-api",),
    "/etc/mysql": ("mariadb",),
    "/etc/rabbitmq": ("rabbitmq-server",),
    "/etc/memcached.conf": ("memcached",),
    "/etc/libvirt": ("libvirtd",),
    "/etc/default/openvswitch-switch": ("ovs-vswitchd",),
    "/etc/default/ovn-host": ("ovn-controller",),
    "/etc/default/ovn-central": ("ovn-northd",),
}  # fmt: skip


def below(root):
    """All paths below a directory that are kept, itself first."""
    if root in SKIPPED or not os.path.lexists(root):
        return
    yield root
    if os.path.isdir(root) and not os.path.islink(root):
        for entry in sorted(os.listdir(root)):
            yield from below(os.path.join(root, entry))


def every():
    for root in ROOTS:
        for path in below(root):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
                yield path


def addresses():
    """Addresses and routes, as text."""
    said = subprocess.run(
        "ip -4 -o addr show scope global | awk '{print $2, $4}'; ip -4 route show",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return "\n".join(sorted(line.strip() for line in said.stdout.splitlines())) + "\n"


def links():
    """State, MTU and ARP's settings of the interfaces that labctl-network sets, as text."""
    said = subprocess.run(
        "ip -o link | awk '{sub(/[:@].*/, \"\", $2); for (i = 3; i < NF; i++)"
        " if ($i == \"mtu\" && $2 ~ /^(eth|br-ex|br-phy)/) print $2, $(i + 1), $3 ~ /[<,]UP[,>]/}'"
        "; cd /proc/sys/net/ipv4/conf && grep -s . eth*/arp_ignore eth*/rp_filter; true",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return "\n".join(sorted(said.stdout.splitlines())) + "\n"


def save(place):
    with tarfile.open(place / "files.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for path in every():
            archive.add(path, arcname=path.lstrip("/"), recursive=False)
    (place / "addresses").write_text(addresses())
    (place / "links").write_text(links())
    (place / "namespaces.json").write_text(json.dumps(namespaces()))


def namespaces():
    """Network namespaces but those of the metadata agent, which come and go with instances."""
    said = subprocess.run(["ip", "-json", "netns", "list"], capture_output=True, text=True)
    names = {one["name"] for one in json.loads(said.stdout or "[]")}
    return sorted(name for name in names if not name.startswith("ovnmeta-"))


def remove_namespaces(place):
    """Remove those that were made since; the missing ones are made by who needs them."""
    kept = json.loads((place / "namespaces.json").read_text())
    for name in set(namespaces()) - set(kept):
        subprocess.run(["ip", "netns", "delete", name], check=True, capture_output=True, text=True)


def addresses_differ(place):
    return (place / "addresses").read_text() != addresses()


def links_differ(place):
    kept = place / "links"
    return not kept.exists() or kept.read_text() != links()


def same(archive, member, path):
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_IMODE(now.st_mode) != member.mode and not member.issym():
        return False
    if (now.st_uid, now.st_gid) != (member.uid, member.gid):
        return False
    if member.isdir():
        return stat.S_ISDIR(now.st_mode)
    if member.issym():
        return stat.S_ISLNK(now.st_mode) and os.readlink(path) == member.linkname
    if not stat.S_ISREG(now.st_mode):
        return False
    with open(path, "rb") as stream:
        return stream.read() == content(archive, member)


def content(archive, member):
    stream = archive.extractfile(member)  # of a hard link: what it is linked to
    return stream.read() if stream else b""


def restore(place):
    """Make all files what they were; the paths that were not."""
    changed = []
    with tarfile.open(place / "files.tar") as archive:
        members = {"/" + member.name: member for member in archive.getmembers()}
        for path in sorted(set(every()) - set(members), reverse=True):
            remove(path)
            changed.append(path)
        for path, member in members.items():
            if not same(archive, member, path):
                put(archive, member, path)
                changed.append(path)
    return changed


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        Path(path).unlink(missing_ok=True)


def put(archive, member, path):
    if member.isdir():
        if os.path.lexists(path) and not (os.path.isdir(path) and not os.path.islink(path)):
            remove(path)
        os.makedirs(path, exist_ok=True)
    else:
        new = f"{path}.labctl-new"
        remove(new)
        if member.issym():
            os.symlink(member.linkname, new)
        else:
            with open(new, "wb") as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.write(content(archive, member))
        if os.path.isdir(path) and not os.path.islink(path):
            remove(path)
        os.replace(new, path)
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode)
        os.utime(path, (member.mtime, member.mtime))


def restart(changed, units):
    """Restart what has read files that were something else; the names of those units."""
    if any(path.startswith(("/etc/systemd", "/usr/local/lib/systemd")) for path in changed):
        subprocess.run(["systemctl", "daemon-reload"], check=True, capture_output=True)
    stale = [
        unit
        for prefix, readers in READERS.items()
        if any(path == prefix or path.startswith(prefix + "/") for path in changed)
        for unit in readers
        if unit in units
    ]
    if stale:
        subprocess.run(["systemctl", "restart", *stale], check=True, capture_output=True, text=True)
    return stale


# -- Glance ----------------------------------------------------------------------------------------
def save_images(place):
    """An image never changes once it is there: another name for its file is enough."""
    (place / "images").mkdir()
    if IMAGES.is_dir():
        for image in IMAGES.iterdir():
            if image.is_file():
                os.link(image, place / "images" / image.name)


def restore_images(place):
    kept = {image.name: image for image in (place / "images").iterdir()}
    if not IMAGES.is_dir():
        return
    for image in IMAGES.iterdir():
        if image.name not in kept and image.is_file():
            image.unlink()
    for name, image in kept.items():
        there = IMAGES / name
        if not there.exists() or there.stat().st_ino != image.stat().st_ino:
            there.unlink(missing_ok=True)
            os.link(image, there)
