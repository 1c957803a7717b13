"""The language that the system speaks to this user."""

import sys


def user_language() -> str:
    """The language of the user's desktop, such as `zh_TW`; "" if it is told by variables alone."""
    if sys.platform == "win32":
        import ctypes
        import locale

        return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")
    return ""
