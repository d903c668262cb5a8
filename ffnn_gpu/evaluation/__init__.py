"""Rows held out, and the loss and metrics of a network on data.

evaluate      loss and metrics of a network on rows
samples       rows with targets and weights: checked, split into training and validation rows, class weights
metrics       the metrics, each by its name
importance    how much the error grows when a column is shuffled
reliability   predicted probabilities against frequencies
"""
