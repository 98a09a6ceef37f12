"""`cfw bench`: the worker beside other servers that do the same work, side by side in one run.

command     the options, and the order of things
measures    what is measured, and what came of it
servers     processes on their own core
rig, load   what the rigs send, and when
report, plot    tables, JSON, SVG
peers       the other servers
"""
