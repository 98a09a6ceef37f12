"""The routes that the application mounts."""
