"""HTTP/1.1 for whoever listens: requests and answers, routes, and one connection's talk.

The admin listener speaks it, and the port for rigs to who asks there for a page.
"""
