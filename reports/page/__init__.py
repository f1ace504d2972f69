"""A comparison of captures as one page that needs no network. Public: `page`."""

from reports.page.render import page

__all__ = ["page"]
