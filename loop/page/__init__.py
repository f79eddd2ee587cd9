"""The project lead's page: figures computed in `figures`, written down by `write`."""
