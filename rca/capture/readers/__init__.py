"""One file per trace or counter format: modules that follow the protocol `rca.capture.source.Reader`.

They are listed in `rca.capture.readers.registry`.
"""
