"""The project's address, for `--help`."""

from __future__ import annotations

_BEST = ("documentation", "homepage", "source")


def address(distribution: str = "xai-deploy") -> str | None:
    """An address of an installed distribution: of its documentation, or else the next best.

    `project_urls.toml` is the one place that states it; it comes here in the distribution's metadata.

    Returns:
        None if the project has no address, or nothing is installed.
    """
    from importlib import metadata  # late: it takes a tenth of what importing the package takes

    try:
        stated = metadata.metadata(distribution).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    urls = {name.strip().lower(): url.strip() for name, comma, url in (line.partition(",") for line in stated) if comma}
    return next((urls[name] for name in _BEST if name in urls), next(iter(urls.values()), None))
