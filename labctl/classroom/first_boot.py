"""What cloud-init runs once on a learner's machine, as root."""

import shlex
from collections.abc import Sequence


def first_boot(user: str, learner: str, authorized: Sequence[str]) -> str:
    """A script that lets keys in; `authorized` are lines of authorized_keys."""
    return _script(user, learner, authorized)


def _script(
    user: str, learner: str, authorized: Sequence[str], before: str = "", after: str = ""
) -> str:
    lines = "".join(f'echo {shlex.quote(line)} >>"$ssh/authorized_keys"\n' for line in authorized)
    return (
        "#!/bin/sh\n"
        f"# labctl class: {learner} may log in as {user}.\n"
        f"{before}"
        f"ssh=$(eval echo ~{user})/.ssh\n"
        'mkdir -p -m 700 "$ssh"\n'
        f"{lines}"
        f'chown -R {user} "$ssh"\n'
        'chmod 600 "$ssh/authorized_keys"\n'
        f"{after}"
    )


def first_boot_of_a_bare_image(user: str, learner: str, authorized: Sequence[str]) -> str:
    """The same for images that may have neither the user nor an SSH server."""
    before = f"id {user} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {user}\n"
    after = (
        f"if [ {user} != root ] && [ -d /etc/sudoers.d ]; then\n"
        f"    echo '{user} ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/90-labctl-class\n"
        "    chmod 440 /etc/sudoers.d/90-labctl-class\n"
        "fi\n"
        "if ! command -v sshd >/dev/null && command -v apt-get >/dev/null; then\n"
        "    export DEBIAN_FRONTEND=noninteractive\n"
        "    apt-get update -q && apt-get install -q -y openssh-server\n"
        "fi\n"
    )
    return _script(user, learner, authorized, before, after)
