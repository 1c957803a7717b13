"""The tokens of the page's address.

Nothing here is slow to import: the address is printed before the server is.
"""

import hmac
import secrets


class Tokens:
    """What lets a browser in, and by what `labctl status` knows the server."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        """For the address that is printed; good as long as the server runs."""
        self.identifier = secrets.token_hex(16)
        """Not secret: every answer has it, so that `labctl status` knows the server."""
        self._once: set[str] = set()

    def for_one_use(self) -> str:
        """A token that is good for one request.

        For the browser that labctl starts: other users of the machine can read its command line.
        """
        token = secrets.token_urlsafe(32)
        self._once.add(token)
        return token

    def accept(self, token: str) -> bool:
        """Whether a token is good; one for one use is so once."""
        if same(token, self.token):
            return True
        for good in self._once:
            if same(token, good):
                self._once.discard(good)
                return True
        return False


def same(sent: str, good: str) -> bool:
    """Whether they are equal; it takes as long whether or not they are."""
    return hmac.compare_digest(sent.encode(), good.encode())
