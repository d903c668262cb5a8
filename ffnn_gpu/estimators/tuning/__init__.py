"""The search for settings whose network is better on the validation rows, by Optuna.

space       which settings are searched, and where
limits      when a search ends: trials, seconds
problem     a data set, read, split and encoded once, and the network of any settings on it
study       Optuna's study: its next trial, its best one, its table
study_file  where it is stored: made, continued, refused if it is of other data
trial       one training run that reports every epoch, and how it ended
search      trial after trial, and the best of them
pictures    what the study shows
tune_table  all of these in one call
"""

from ffnn_gpu.estimators.tuning.space import Choices, Multiples, Numbers, Space

__all__ = ["Choices", "Multiples", "Numbers", "Space"]
