"""Tasks beside a block, and what becomes of their failures.

    nurseries    they leave as they are, in no group; for the worker and for `cfw.client`
    background   they never leave: what a sink or an authority runs beside the captures

Each is imported by itself: the client needs no log.
"""
