"""The web page of ``hqtrack ui``; it needs the extra ``ui``."""
