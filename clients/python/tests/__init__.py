"""Tests of the client: `python3 -m unittest` in clients/python. PULSEGATE_BINARY names a gateway, if there is one."""
