"""A local stand-in for staging: a real service on loopback, and the checkout that goes with it.

Nothing outside this package imports it but the demo command and tests.
"""
