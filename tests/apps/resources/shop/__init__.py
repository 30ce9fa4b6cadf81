"""What the scenarios on resources run as a package."""

__version__ = "3.1.0"
