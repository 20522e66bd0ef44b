"""Altair, Jinja and MathML: the only places that know how a report is drawn."""
