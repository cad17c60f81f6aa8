"""The bundle on disk: manifest, files, and the guard that checks graphs before a runtime sees them."""
