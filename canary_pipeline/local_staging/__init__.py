"""A local stand-in for staging: a real service on loopback, and the checkout that goes with it.

Nothing outside this package imports it but the demo command and tests. It needs the extra `demo`.
"""

NEEDED = ("jwt", "starlette", "uvicorn")
"""What the extra `demo` installs, by the names that are imported."""
