"""`cfw bench`: the worker beside other servers that do the same work, side by side in one run.

measures    what is measured, and what came of it: a module for each question
plan        how much of it
rounds      from server to server
servers, cores  processes on their own core
load, sender    what is sent when
rig, frames     by whom, and what
tls         a certificate for a run, and the load over it
tables, report, plot    medians and ratios; for people, JSON, SVG
reading     ways to read the metadata of a frame
peers       the other servers
"""
