"""FroSSL and its rivals: self-supervised visual representation learning, exactly as in the papers."""

__version__ = "0.1.0"
