"""The web page: its files, its modules under node, and the page itself in Chromium."""
