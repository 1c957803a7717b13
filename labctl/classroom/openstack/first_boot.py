"""What cloud-init runs once on a learner's machine, as root."""

import shlex


def first_boot(user: str, learner: str, authorized: str) -> str:
    """A script that lets a learner's key in; `authorized` is a line of authorized_keys."""
    return (
        "#!/bin/sh\n"
        f"# labctl class: {learner} may log in as {user}.\n"
        f"ssh=$(eval echo ~{user})/.ssh\n"
        'mkdir -p -m 700 "$ssh"\n'
        f'echo {shlex.quote(authorized)} >>"$ssh/authorized_keys"\n'
        f'chown -R {user} "$ssh"\n'
        'chmod 600 "$ssh/authorized_keys"\n'
    )
