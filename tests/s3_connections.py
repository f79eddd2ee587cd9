"""Connections to S3 that s3fs leaves to the garbage collector."""

from __future__ import annotations

import gc
import warnings


def drop_s3_connections() -> None:
    """Have them collected now: each would warn in whichever test comes later."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
