"""What the camera feed worker holds, by room of the house."""
