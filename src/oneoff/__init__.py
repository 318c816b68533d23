"""Run one-off and scheduled commands inside your app's deployed image."""

__version__ = "0.1.0"
