"""The keys of a class. The teacher's is a file; each learner's follows from it.

So that nothing has to be kept for each learner, and cards can be printed again: whoever has the
teacher's key has everybody's, and a learner has only theirs.
"""

import hashlib
import hmac
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labctl.access import keys
from labctl.classroom.labels import description
from labctl.classroom.model import ClassSpec
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.user_files import directory_for_user

DIRECTORY = ".labctl-class"
ACCEPTING = ("-o", "StrictHostKeyChecking=accept-new")
"""For OpenSSH, before other options: a machine that is new is let in once, and known from then."""


def how_to_have_them() -> str:
    """What to do on a machine that lacks the keys of a class."""
    return tr("copy the directory {path} from where the class was made, beside"
              " class.yaml; or destroy the class and make it anew", path=DIRECTORY)  # fmt: skip


def other_teacher() -> LabError:
    """The error where the class lets in another teacher's key than the one that is here."""
    return LabError(
        tr("the class was made with another teacher's key than the one here"),
        hint=how_to_have_them(),
    )


class ClassKeys:
    """The keys of one class, in `.labctl-class/NAME/` beside class.yaml."""

    def __init__(self, spec: ClassSpec, directory: Path) -> None:
        self._spec = spec
        self._directory = directory / DIRECTORY / spec.name
        self.teachers = self._directory / "teacher.key"
        """The private key that every machine of the class lets in."""
        self.known_hosts = self._directory / "host_keys"

    def ensure(self) -> str:
        """Make the teacher's key unless it is there; its public half, a line. Raises LabError."""
        directory_for_user(self._directory.parent)
        directory_for_user(self._directory)
        keys.ensure(self.teachers)
        return keys.public(self.teachers)

    def require(self) -> None:
        """Raises LabError if the teacher's key is not here."""
        if not self.teachers.is_file():
            raise LabError(
                tr("the teacher's key of class {name} is not here: {path}",
                   name=self._spec.name, path=self.teachers),
                hint=how_to_have_them(),
            )  # fmt: skip

    def learners(self, learner: str) -> Ed25519PrivateKey:
        """A learner's private key. Raises LabError without the teacher's."""
        self.require()
        private = serialization.load_ssh_private_key(self.teachers.read_bytes(), password=None)
        assert isinstance(private, Ed25519PrivateKey)
        message = f"labctl class {self._spec.name} learner {learner}".encode()
        return Ed25519PrivateKey.from_private_bytes(
            hmac.digest(private.private_bytes_raw(), message, hashlib.sha256)
        )

    def learners_file(self, learner: str) -> str:
        """The same as the text of a private key file of OpenSSH."""
        text = self.learners(learner).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        return text.decode()

    def authorized(self, learner: str) -> str:
        """The line of authorized_keys that lets a learner in; it carries the label of the class."""
        public = self.learners(learner).public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )  # fmt: skip
        return f"{public.decode()} {description(self._spec.name, learner)}"
