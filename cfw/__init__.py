"""The camera feed worker: a pure core decides, a thin Trio shell carries it out."""

__version__ = "0.2.0"
