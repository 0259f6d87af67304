"""What can go wrong between a site's name and its rows. Every text says what was wanted, what was found, and what to do next."""


class SiteError(ValueError):
    """A site that this model does not have, or a name that means none."""


class CaptureError(RuntimeError):
    """A pass that did not give the rows it was asked for."""


class StoreError(RuntimeError):
    """A folder of rows that cannot be written, or is not what its manifest says."""
