"""For who only films: one page at the port for rigs, and nothing of the feed or an admin."""

from cfw.film.app import create_film_app
from cfw.film.door import Door

__all__ = ["Door", "create_film_app"]
