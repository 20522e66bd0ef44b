"""The contracts that every service of Overproof imports; none of them imports another."""

__version__ = "0.1.0"
