"""Ensembles for tables: members trained on folds, chosen out of fold, joined to one network."""
