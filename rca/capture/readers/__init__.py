"""One file per trace or counter format. A reader is a module with ``NAME``, ``matches(head)`` and ``read(path)``."""
