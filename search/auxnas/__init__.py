"""Aux-NAS: a primary network trained with links to auxiliary ones, which are then cut."""
