"""Regular files only: see `fvv.regular`, which the settings need too."""

from fvv.regular import MAX_TEXT_BYTES, read_regular_text, refuse_irregular, refuse_unsafe_name

__all__ = ["MAX_TEXT_BYTES", "read_regular_text", "refuse_irregular", "refuse_unsafe_name"]
